package docker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"

	"github.com/effiscale/effiscale/knowledge"
)

const (
	// queued events wait for a busy receiver; the Engine itself buffers 1024.
	queued = 1024
	// longestPause is between two attempts to follow the events, for ever: a
	// client that stops trying is blind and does not know it (traefik issue 13549).
	longestPause = 30 * time.Second
	// openWithin bounds the wait for the stream's first byte, which has no end.
	openWithin = 10 * time.Second
	// settled: a stream that lived this long was a good one, and the next
	// attempt is made at once.
	settled = 5 * time.Second
)

// eventKinds are the actions that are asked for. Health checks alone make three
// exec events each time; the Engine leaves those out for us.
var eventKinds = map[string]knowledge.EventKind{
	"create":        knowledge.EventCreate,
	"start":         knowledge.EventStart,
	"die":           knowledge.EventDie,
	"destroy":       knowledge.EventDestroy,
	"update":        knowledge.EventUpdate,
	"rename":        knowledge.EventRename,
	"health_status": knowledge.EventHealth,
	"oom":           knowledge.EventOOM,
	"pause":         knowledge.EventPause,
	"unpause":       knowledge.EventUnpause,
}

// Watch tells emit of containers that change, until ctx ends. It never gives up:
// a stream that breaks is opened again after 0.1 to 30 s, from the last event on.
// An EventResync, which says that events may be missing, comes at the start,
// with every stream that opens, when emit was too slow for the events, and every
// ResyncEvery. Events may come twice. emit is called from one goroutine.
func (c *Client) Watch(ctx context.Context, emit func(knowledge.Event)) {
	var wg sync.WaitGroup
	defer wg.Wait()
	f := &follower{c: c, queue: make(chan knowledge.Event, queued), resync: make(chan struct{}, 1)}
	wg.Go(func() { f.run(ctx) })

	every := time.NewTicker(c.o.ResyncEvery)
	defer every.Stop()
	emit(knowledge.Event{Kind: knowledge.EventResync, At: time.Now()})
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-f.queue:
			emit(e)
		case <-f.resync:
			emit(knowledge.Event{Kind: knowledge.EventResync, At: time.Now()})
		case <-every.C:
			emit(knowledge.Event{Kind: knowledge.EventResync, At: time.Now()})
		}
	}
}

// follower keeps one event stream open.
type follower struct {
	c      *Client
	queue  chan knowledge.Event
	resync chan struct{}
	last   int64 // the newest event's own time, or when the first stream opened; unix nanoseconds; 0: neither yet
}

func (f *follower) run(ctx context.Context) {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval = 100 * time.Millisecond
	pause.Multiplier = 2
	pause.MaxInterval = longestPause
	for {
		opened := time.Now()
		err := f.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(opened) > settled {
			pause.Reset()
		}
		wait := min(pause.NextBackOff(), longestPause)
		f.c.o.Log.Debug().Err(err).Dur("again_in", wait).Msg("docker events lost")
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// follow opens one stream and reads it to its end.
func (f *follower) follow(ctx context.Context) error {
	// The breaker and the negotiation are those of any call; the stream itself
	// has no deadline and stands beside them.
	var s *session
	err := f.c.do(ctx, opPing, "", openWithin, func(ctx context.Context, now *session) error {
		s = now
		_, err := now.api.Ping(ctx)
		return err
	})
	if err != nil {
		return err
	}
	began := time.Now()
	ctx, cancel := context.WithCancel(ctx)
	ctx, x := withExchange(ctx, opEvents.bound)
	late := time.AfterFunc(openWithin, cancel)
	messages, errs := s.api.Events(ctx, f.options())
	inTime := late.Stop()
	opened := inTime && x.status.Load() == 200
	if f.c.o.Observe != nil {
		f.c.o.Observe(opEvents.name, int(x.status.Load()), time.Since(began))
	}
	if opened {
		if f.last == 0 {
			f.last = began.UnixNano()
		}
		f.askResync()
		err = f.read(messages, errs, x)
	} else {
		err = <-errs
	}
	alive := ctx.Err() == nil
	cancel()
	for range errs { // closed when the reader is gone
	}
	switch {
	case !inTime:
		err = context.DeadlineExceeded
	case !alive:
		return ctx.Err()
	case opened:
		err = &Error{Op: opEvents.name, Kind: KindUnreachable, Message: clean("the event stream ended: " + err.Error()), cause: err}
	}
	e := f.c.verdict(opEvents, "", x, err)
	f.c.failed(s, e)
	return e
}

func (f *follower) read(messages <-chan events.Message, errs <-chan error, x *exchange) error {
	for {
		select {
		case m := <-messages:
			x.left.Store(eventBound) // the bound is for one event, the stream has no end
			f.take(&m)
		case err := <-errs:
			if err == nil {
				err = errors.New("closed")
			}
			return err
		}
	}
}

// take queues one event; it never waits, for the Engine drops what a slow
// reader does not take, without a word.
func (f *follower) take(m *events.Message) {
	f.last = max(f.last, m.TimeNano)
	e, ok := eventOf(m)
	if !ok {
		return
	}
	select {
	case f.queue <- e:
	default:
		f.askResync()
	}
}

func (f *follower) askResync() {
	select {
	case f.resync <- struct{}{}:
	default:
	}
}

// options ask for container events since the last one.
func (f *follower) options() events.ListOptions {
	args := filters.NewArgs(filters.Arg("type", string(events.ContainerEventType)))
	for action := range eventKinds {
		args.Add("event", action)
	}
	o := events.ListOptions{Filters: args}
	if f.last > 0 {
		next := f.last + 1
		o.Since = fmt.Sprintf("%d.%09d", next/int64(time.Second), next%int64(time.Second))
	}
	return o
}

// eventOf reads one message; ok is false for what is not asked about.
func eventOf(m *events.Message) (e knowledge.Event, ok bool) {
	action, _, _ := strings.Cut(string(m.Action), ":")
	kind, ok := eventKinds[action]
	if !ok || m.Type != events.ContainerEventType || !isID(m.Actor.ID) {
		return e, false
	}
	return knowledge.Event{
		Kind: kind,
		ID:   knowledge.ContainerID(m.Actor.ID),
		Name: m.Actor.Attributes["name"],
		At:   time.Unix(0, m.TimeNano),
	}, true
}
