package main

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/go-kit/kit/endpoint"
	"github.com/go-kit/kit/sd"
	"github.com/go-kit/log"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"
)

// changing is a client whose instance in the middle goes and comes back.
type changing interface {
	// prepare makes the list that the registry has now. The first function returns when a pick knows it,
	// the second one does what follows.
	prepare(added bool) (visible, after func())
}

var changers = map[string]func(n int) changing{
	"gokit_round_robin": newGokitChange,
	"grpc_round_robin":  newGrpcChange,
}

// cost is that of one change, the collector's work before it left out.
type cost struct {
	visible, cpu time.Duration
	bytes        uint64
}

func measureChange(c changing, added bool) cost {
	visible, after := c.prepare(added)
	runtime.GOMAXPROCS(runtime.NumCPU())
	runtime.GC()
	var before, behind runtime.MemStats
	runtime.ReadMemStats(&before)
	used, began := cpuUsed(), time.Now()
	visible()
	elapsed := time.Since(began)
	after()
	used = cpuUsed() - used
	runtime.ReadMemStats(&behind)
	return cost{elapsed, used, behind.TotalAlloc - before.TotalAlloc}
}

func cpuUsed() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		fail(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func addresses(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("10.%d.%d.%d:80", i>>16, i>>8&255, i&255)
	}
	return all
}

// without is a copy without the one in the middle.
func without(all []string) []string {
	return slices.Delete(slices.Clone(all), len(all)/2, len(all)/2+1)
}

// gokitChange is an Instancer and its DefaultEndpointer.
type gokitChange struct {
	all        []string
	events     chan<- sd.Event
	endpointer sd.Endpointer
}

func newGokitChange(n int) changing {
	c := &gokitChange{all: addresses(n)}
	// Its cache sorts the list of each event: sorted beforehand, that costs it least.
	slices.Sort(c.all)
	factory := func(string) (endpoint.Endpoint, io.Closer, error) { return noop, nil, nil }
	c.endpointer = sd.NewEndpointer(c, factory, log.NewNopLogger())
	c.wait(n)
	return c
}

func (c *gokitChange) Register(events chan<- sd.Event) {
	c.events = events
	events <- sd.Event{Instances: slices.Clone(c.all)}
}

func (c *gokitChange) Deregister(chan<- sd.Event) {}

func (c *gokitChange) Stop() {}

func (c *gokitChange) wait(n int) {
	for {
		endpoints, err := c.endpointer.Endpoints()
		if err != nil {
			fail(err)
		}
		if len(endpoints) == n {
			return
		}
		runtime.Gosched()
	}
}

func (c *gokitChange) prepare(added bool) (func(), func()) {
	list := without(c.all)
	if added {
		list = slices.Clone(c.all)
	}
	return func() {
		c.events <- sd.Event{Instances: list}
		c.wait(len(list))
	}, func() {}
}

// grpcChange is round_robin, told of a new list by its resolver. A new connection is ready at once.
type grpcChange struct {
	channel *channel
	all     []string
	middle  int // the connection that goes or came last
}

func newGrpcChange(n int) changing {
	return &grpcChange{grpcPicker(n, "round_robin", "{}"), addresses(n), n / 2}
}

func (c *grpcChange) prepare(added bool) (func(), func()) {
	list := without(c.all)
	if added {
		list = slices.Clone(c.all)
	}
	resolved := make([]resolver.Address, len(list))
	for i, address := range list {
		resolved[i].Addr = address
	}
	state := balancer.ClientConnState{ResolverState: resolver.State{Addresses: resolved}}
	update := func() {
		if err := c.channel.balancer.UpdateClientConnState(state); err != nil {
			fail(err)
		}
	}
	if !added {
		gone := c.channel.listeners[c.middle]
		return update, func() { gone(balancer.SubConnState{ConnectivityState: connectivity.Shutdown}) }
	}
	return func() {
		update()
		c.middle = len(c.channel.listeners) - 1
		c.channel.connect(c.middle)
		if _, err := c.channel.picker.Pick(balancer.PickInfo{Ctx: context.Background()}); err != nil {
			fail(err)
		}
	}, func() {}
}
