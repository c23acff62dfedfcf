// Balancers of Go, measured on demand: the Rust side decides when, so that its rounds and these are
// interleaved.
//
// Each line on stdin asks for one measurement, "<name> <endpoints> <goroutines> <times>", and is answered
// with "<nanoseconds> <allocations>": how long it took until each goroutine had done it so many times.
package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"
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

func main() {
	made := map[string]worker{}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var name string
		var n, goroutines, times int
		if _, err := fmt.Sscan(lines.Text(), &name, &n, &goroutines, &times); err != nil {
			fail(err)
		}
		key := fmt.Sprint(name, n)
		if made[key] == nil {
			maker := makers[name]
			if maker == nil {
				fail(fmt.Errorf("unknown: %s", name))
			}
			made[key] = maker(n)
		}
		elapsed, allocations := measure(made[key], goroutines, times)
		fmt.Println(elapsed.Nanoseconds(), allocations)
	}
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
