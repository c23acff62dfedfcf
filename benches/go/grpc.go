package main

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	v3orcapb "github.com/cncf/xds/go/xds/data/orca/v3"
	"google.golang.org/grpc/balancer"
	_ "google.golang.org/grpc/balancer/leastrequest"
	_ "google.golang.org/grpc/balancer/roundrobin"
	_ "google.golang.org/grpc/balancer/weightedroundrobin"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"
)

// channel is what a balancer sees of a ClientConn: connections that are ready as soon as they are
// asked for. It keeps the newest picker.
type channel struct {
	mutex     sync.Mutex
	picker    balancer.Picker
	balancer  balancer.Balancer
	listeners []func(balancer.SubConnState)
}

func (c *channel) NewSubConn(a []resolver.Address, o balancer.NewSubConnOptions) (balancer.SubConn, error) {
	c.listeners = append(c.listeners, o.StateListener)
	return &connection{position: len(c.listeners) - 1}, nil
}

func (c *channel) UpdateState(state balancer.State) {
	c.mutex.Lock()
	c.picker = state.Picker
	c.mutex.Unlock()
}

func (c *channel) RemoveSubConn(balancer.SubConn)                       {}
func (c *channel) UpdateAddresses(balancer.SubConn, []resolver.Address) {}
func (c *channel) ResolveNow(resolver.ResolveNowOptions)                {}
func (c *channel) Target() string                                       { return "measured" }

type connection struct{ position int }

func (*connection) UpdateAddresses([]resolver.Address) {}
func (*connection) Connect()                           {}
func (*connection) Shutdown()                          {}
func (*connection) GetOrBuildProducer(balancer.ProducerBuilder) (balancer.Producer, func()) {
	return nil, func() {}
}

func grpcPicker(n int, name, config string) *channel {
	builder := balancer.Get(name)
	c := &channel{}
	c.balancer = builder.Build(c, balancer.BuildOptions{})
	var parsed serviceconfig.LoadBalancingConfig
	if parser, ok := builder.(balancer.ConfigParser); ok {
		var err error
		if parsed, err = parser.ParseConfig(json.RawMessage(config)); err != nil {
			fail(err)
		}
	}
	resolved := make([]resolver.Address, n)
	for i, address := range addresses(n) {
		resolved[i].Addr = address
	}
	state := resolver.State{Addresses: resolved}
	if err := c.balancer.UpdateClientConnState(balancer.ClientConnState{ResolverState: state, BalancerConfig: parsed}); err != nil {
		fail(err)
	}
	for i := range c.listeners {
		c.connect(i)
	}
	return c
}

func (c *channel) connect(connection int) {
	c.listeners[connection](balancer.SubConnState{ConnectivityState: connectivity.Connecting})
	c.listeners[connection](balancer.SubConnState{ConnectivityState: connectivity.Ready})
}

// A pick, and what the picker is told when the call is over.
func (c *channel) picks(times int, done balancer.DoneInfo) {
	info := balancer.PickInfo{FullMethodName: "/greeter/Hello", Ctx: context.Background()}
	for range times {
		result, err := c.picker.Pick(info)
		if err != nil {
			fail(err)
		}
		if result.Done != nil {
			result.Done(done)
		}
	}
}

func (c *channel) worker() worker {
	return func(times int) { c.picks(times, balancer.DoneInfo{}) }
}

func grpcRoundRobin(n int) worker { return grpcPicker(n, "round_robin", "{}").worker() }

func grpcLeastRequest(n int) worker {
	return grpcPicker(n, "least_request_experimental", `{"choiceCount": 2}`).worker()
}

func zipf(position int) float64 { return 1 / float64(position+1) }

func oneHeavy(position int) float64 {
	if position == 0 {
		return 1
	}
	return 1e-6
}

// Weights come with the answers, and count a period later.
func grpcWeighted(n int, weight func(int) float64) worker {
	c := grpcPicker(n, "weighted_round_robin", `{"blackoutPeriod": "0s", "weightUpdatePeriod": "0.1s"}`)
	known := make(map[int]bool, n)
	info := balancer.PickInfo{Ctx: context.Background()}
	for len(known) < n {
		result, err := c.picker.Pick(info)
		if err != nil {
			fail(err)
		}
		position := positionOf(result.SubConn)
		known[position] = true
		report := &v3orcapb.OrcaLoadReport{RpsFractional: 1e6 * weight(position), ApplicationUtilization: 1}
		result.Done(balancer.DoneInfo{ServerLoad: report})
	}
	time.Sleep(300 * time.Millisecond)
	return c.worker()
}

func positionOf(c balancer.SubConn) int {
	return c.(*connection).position
}
