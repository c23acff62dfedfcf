package main

import (
	"context"
	"io"
	"time"

	"github.com/go-kit/kit/endpoint"
	"github.com/go-kit/kit/sd"
	"github.com/go-kit/kit/sd/lb"
	"github.com/go-kit/log"
)

func noop(_ context.Context, request interface{}) (interface{}, error) { return request, nil }

func gokitEndpointer(n int) sd.Endpointer {
	factory := func(string) (endpoint.Endpoint, io.Closer, error) { return noop, nil, nil }
	endpointer := sd.NewEndpointer(sd.FixedInstancer(addresses(n)), factory, log.NewNopLogger())
	for {
		if endpoints, err := endpointer.Endpoints(); err == nil && len(endpoints) == n {
			return endpointer
		}
		time.Sleep(time.Millisecond)
	}
}

func gokitPicks(balancer lb.Balancer) worker {
	return func(times int) {
		for range times {
			if _, err := balancer.Endpoint(); err != nil {
				fail(err)
			}
		}
	}
}

func gokitRoundRobin(n int) worker { return gokitPicks(lb.NewRoundRobin(gokitEndpointer(n))) }

func gokitRandom(n int) worker { return gokitPicks(lb.NewRandom(gokitEndpointer(n), 7)) }

// A call, that succeeds at once, through its retry: three attempts within a second.
func gokitRetry(n int) worker {
	call := lb.Retry(3, time.Second, lb.NewRoundRobin(gokitEndpointer(n)))
	return func(times int) {
		for range times {
			if _, err := call(context.Background(), uint64(times)); err != nil {
				fail(err)
			}
		}
	}
}
