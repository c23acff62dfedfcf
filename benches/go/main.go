// Balancers of Go, measured on demand: the Rust side decides when, so that its rounds and these are
// interleaved.
//
// Each line on stdin asks for one thing and is answered with one line:
//
//	pick <name> <endpoints> <goroutines> <times>    <nanoseconds> <allocations>, until each goroutine is done
//	change <name> <endpoints> <added | removed>     <nanoseconds> <nanoseconds of CPU> <bytes allocated>
//	versions                                        those of Go and of the libraries
package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
)

// worker does something so many times.
type worker func(times int)

var makers = map[string]func(n int) worker{
	"gokit_round_robin":     gokitRoundRobin,
	"gokit_random":          gokitRandom,
	"gokit_retry":           gokitRetry,
	"grpc_round_robin":      grpcRoundRobin,
	"grpc_least_request":    grpcLeastRequest,
	"grpc_weighted_zipf":    func(n int) worker { return grpcWeighted(n, zipf) },
	"grpc_weighted_1_heavy": func(n int) worker { return grpcWeighted(n, oneHeavy) },
}

// gokitVersion is set by the linker: the library does not say it.
var gokitVersion = "of an unknown version"

func main() {
	picks, changes := map[string]worker{}, map[string]changing{}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var what, name string
		var n int
		if lines.Text() == "versions" {
			fmt.Printf("Go %s, go-kit %s, grpc-go %s\n", runtime.Version()[2:], gokitVersion, grpc.Version)
			continue
		}
		if _, err := fmt.Sscan(lines.Text(), &what, &name, &n); err != nil {
			fail(err)
		}
		rest := strings.Fields(lines.Text())[3:]
		if what == "change" {
			cost := measureChange(made(changes, changers, name, n), rest[0] == "added")
			fmt.Println(cost.visible.Nanoseconds(), cost.cpu.Nanoseconds(), cost.bytes)
			continue
		}
		var goroutines, times int
		if _, err := fmt.Sscan(strings.Join(rest, " "), &goroutines, &times); err != nil {
			fail(err)
		}
		elapsed, allocations := measure(made(picks, makers, name, n), goroutines, times)
		fmt.Println(elapsed.Nanoseconds(), allocations)
	}
}

// made is the one that is there already, or a new one.
func made[T any](known map[string]T, makers map[string]func(int) T, name string, n int) T {
	key := fmt.Sprint(name, " ", n)
	one, ok := known[key]
	if !ok {
		maker := makers[name]
		if maker == nil {
			fail(fmt.Errorf("unknown: %s", name))
		}
		one = maker(n)
		known[key] = one
	}
	return one
}

func measure(work worker, goroutines, times int) (time.Duration, uint64) {
	runtime.GOMAXPROCS(goroutines)
	var ready, done sync.WaitGroup
	start := make(chan struct{})
	for range goroutines {
		ready.Add(1)
		done.Add(1)
		go func() {
			ready.Done()
			<-start
			work(times)
			done.Done()
		}()
	}
	ready.Wait()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began := time.Now()
	close(start)
	done.Wait()
	elapsed := time.Since(began)
	runtime.ReadMemStats(&after)
	return elapsed, after.Mallocs - before.Mallocs
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "go peers:", err)
	os.Exit(1)
}
