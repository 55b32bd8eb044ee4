package mape

import (
	"context"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// The loop sleeps while nothing is due. An event is followed by a tick long before the
// sleep would have ended, also where further events come all the time.
func TestAnEventEndsTheSleep(t *testing.T) {
	h := newHost(t, options{})
	h.loop.o.Now = time.Now
	b := h.run("web", usual, map[string]string{"managed": "no"})
	ticks := make(chan time.Time, 1024)
	h.loop.o.OnTick = func() { ticks <- time.Now() }
	ctx, cancel := context.WithCancel(t.Context())
	go h.loop.Run(ctx)
	defer func() { cancel(); <-h.loop.Stopped() }()
	for last, slept := <-ticks, 0; slept < 2; {
		select {
		case at := <-ticks:
			if at.Sub(last) > 500*time.Millisecond {
				slept++
			}
			last = at
		case <-time.After(20 * time.Second):
			t.Fatal("no tick")
		}
	}
	sent := time.Now()
	for {
		h.loop.Emit(knowledge.Event{Kind: knowledge.EventHealth, ID: b.c.ID, At: sent})
		select {
		case at := <-ticks:
			if late := at.Sub(sent); late > 600*time.Millisecond {
				t.Errorf("a tick %s after the event", late)
			}
			return
		case <-time.After(time.Millisecond):
		}
	}
}
