package docker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"

	"github.com/effiscale/effiscale/knowledge"
)

const (
	// queued is how many events may wait for the receiver; the Engine buffers 1024.
	queued = 1024
	// longestPause is between two attempts to open the stream, which never end (compare
	// traefik issue 13549).
	longestPause = 30 * time.Second
	// openWithin bounds the wait for the first byte of the stream, which itself has no deadline.
	openWithin = 10 * time.Second
	// settled: after a stream that lasted this long the pause starts over.
	settled = 5 * time.Second
)

// eventKinds are the subscribed actions. The Engine filters the others: each health check
// causes three exec events.
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
	"kill":          knowledge.EventKill,
	"stop":          knowledge.EventStop,
}

// Watch calls emit with the events of containers, until ctx ends. A stream that breaks is
// opened again after 0.1 to 30 s, from the last event on. EventResync means that events
// may be missing: it comes at the start, whenever a stream opens, when emit was too slow,
// and every ResyncEvery. Events may be repeated. emit is called from one goroutine.
func (c *Client) Watch(ctx context.Context, emit func(knowledge.Event)) {
	var wg sync.WaitGroup
	defer wg.Wait()
	f := &follower{c: c, queue: make(chan knowledge.Event, queued), resync: make(chan struct{}, 1)}
	wg.Go(func() { f.run(ctx) })
	wg.Go(func() { c.access.watch(ctx, c.current) })

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
	last   int64 // time of the newest event, else when the first stream opened; unix nanoseconds; 0: neither
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
		f.c.o.Log.Debug().Err(err).Dur("retry_in", wait).Msg("event stream of the Docker Engine ended")
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// follow opens one stream and reads it to its end.
func (f *follower) follow(ctx context.Context) error {
	// A ping goes through circuit breaker and negotiation; the stream has no deadline.
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
		f.c.access.note(opEvents.name, nil)
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
		message := clean("the event stream ended: " + err.Error())
		err = &Error{Op: opEvents.name, Kind: KindUnreachable, Message: message, cause: err}
	}
	e := f.c.classify(opEvents, "", x, err)
	f.c.access.note(opEvents.name, e)
	f.c.failed(s, e)
	return e
}

func (f *follower) read(messages <-chan events.Message, errs <-chan error, x *exchange) error {
	for {
		select {
		case m := <-messages:
			x.left.Store(eventBound) // the bound is for each event
			f.take(&m)
		case err := <-errs:
			if err == nil {
				err = errors.New("closed")
			}
			return err
		}
	}
}

// take queues one event without waiting: the Engine silently drops what a slow reader
// does not take.
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

// options request container events since the last one.
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

// ends reports whether a signal usually ends a process: INT, QUIT, KILL, TERM, or one that an
// image chose to be stopped by, which is above the usual ones (RTMIN+3).
func ends(signal string) bool {
	n, err := strconv.Atoi(signal)
	return err != nil || n == 2 || n == 3 || n == 9 || n == 15 || n > 31
}

// eventOf converts one message; ok is false for those that are not subscribed.
func eventOf(m *events.Message) (e knowledge.Event, ok bool) {
	action, _, _ := strings.Cut(string(m.Action), ":")
	kind, ok := eventKinds[action]
	if !ok || m.Type != events.ContainerEventType || !knowledge.FullID(m.Actor.ID) {
		return e, false
	}
	if kind == knowledge.EventKill && !ends(m.Actor.Attributes["signal"]) {
		return e, false
	}
	code, _ := strconv.Atoi(m.Actor.Attributes["exitCode"])
	return knowledge.Event{
		Kind:     kind,
		ID:       knowledge.ContainerID(m.Actor.ID),
		Name:     m.Actor.Attributes["name"],
		At:       time.Unix(0, m.TimeNano),
		ExitCode: code,
	}, true
}
