package mape

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/history"
	"github.com/effiscale/effiscale/mape/analyse"
	"github.com/effiscale/effiscale/mape/execute"
	"github.com/effiscale/effiscale/mape/plan"
	"github.com/effiscale/effiscale/mape/service"
)

// ContainerStatus is a copy of what the loop knows of one container.
type ContainerStatus struct {
	execute.Container
	Planned   [2]Planned
	IfManaged [2]knowledge.Decision // the limits that it would have if it were managed; Hold: see the reason
	// Paused is the pause of its service that holds, if any.
	Paused      knowledge.Pause
	AttachError string // why it is not measured; empty: it is
	Measured    bool
	// Statistics: its samples are the Engine's statistics, not the kernel's files.
	Statistics bool
	Kills      uint64 // OOM kills that were seen
	Busy       bool   // an action is in progress
	Ending     Ending
	// Watching: a cut is under watch, or the first step of one is.
	Watching bool
	// Runtime is the program that was recognised; no name: none was.
	Runtime analyse.Runtime
	// StartLimit is the memory limit of its start; 0: none, or it was not seen.
	StartLimit knowledge.Bytes
	// Ahead is the forecast of its service that may raise its floor; the zero value:
	// there is none.
	Ahead service.Outlook
	// Pattern is the course of its service's demand, MemoryPattern of its memory.
	Pattern, MemoryPattern analyse.Pattern
	// Learned and Outlooks are of its service; filled by Find only.
	Learned  service.Learned
	Outlooks []service.Outlook
	// Adaptive are the thresholds that its service learned; HasAdaptive: there are any.
	Adaptive    analyse.Thresholds
	HasAdaptive bool
	// Threshold says how they change the limit, or why they do not yet.
	Threshold knowledge.Reason
}

// Summary is a copy of what the loop knows of the host.
type Summary struct {
	Host                    execute.Host
	Settings                Settings
	HostCPU                 knowledge.NanoCPU
	HostUsed, HostAvailable knowledge.Bytes
	CPUFull                 time.Time // since when hardly any of the host's CPU is idle; zero: some is
	Pool, Granted           knowledge.NanoCPU
	Ready                   bool
	StoreError, ListError   string // of the newest try; empty: it went well
	Repaired                int
	Started, LastTick       time.Time
	Cadence                 time.Duration // of busy containers, after spreading
}

func (l *Loop) summary() Summary {
	s := Summary{
		Host: l.exec.Host, Settings: l.set,
		HostCPU: l.host.cpu, HostUsed: l.host.used, HostAvailable: l.host.available, CPUFull: l.host.cpuFull,
		Pool: l.set.cpuPool(l.o.Host), Ready: l.ready, StoreError: l.saving.err, ListError: l.listing.err,
		Repaired: l.exec.Repairs, Started: l.begin, LastTick: l.ticks.last, Cadence: l.cadence.Busy,
	}
	for _, c := range l.containers.order {
		if c.managed() {
			s.Granted += c.Window.Quota
		}
	}
	return s
}

// status copies the container.
func (c *container) status(now time.Time) ContainerStatus {
	v := ContainerStatus{
		Container: c.Container, Planned: c.planned, AttachError: c.reading.attachError,
		Measured: c.Probe != nil, Statistics: c.Probe != nil && c.reading.source != nil,
		Kills: c.track.Kills(), Busy: c.InFlight, Watching: c.Watched(now),
		Ahead: c.service.Ahead(&c.Policy), Runtime: c.reading.life.runtime,
		StartLimit: c.reading.life.limit,
		Ending:     c.ending(now),
	}
	w := c.track.Window
	v.Window = &w
	v.Pattern, v.MemoryPattern = c.service.Patterns()
	if c.Pause.Active(now) {
		v.Paused = *c.Pause
	}
	v.Pause = &v.Paused
	v.Probe = nil
	v.IfManaged[0], v.IfManaged[1] = plan.WouldBe(now, c.facts(now), &w, &v.Envelope, &v.Policy)
	return v
}

// Containers copies all containers and the host's figures.
func (l *Loop) Containers(ctx context.Context) (all []ContainerStatus, sum Summary, err error) {
	err = l.Do(ctx, func() {
		all = make([]ContainerStatus, 0, len(l.containers.order))
		for _, c := range l.containers.order {
			all = append(all, c.status(l.o.Now()))
		}
		sum = l.summary()
	})
	return all, sum, err
}

// freshWithin is how long a name that is not known waits for a listing.
const freshWithin = 2 * time.Second

// knows reports whether a reference is the name of a service that has containers, whole or without
// its project.
func knows(services *service.Registry, ref string) bool {
	for s := range services.All() {
		if key := string(s.Key); s.Replicas.Total > 0 && (key == ref || strings.HasSuffix(key, "/"+ref)) {
			return true
		}
	}
	return false
}

// with runs f for the container that ref names. One that is not known may have been started
// just now: the Engine is asked once.
func (l *Loop) with(ctx context.Context, ref string, f func(c *container)) error {
	var findErr error
	var listed <-chan struct{}
	try := func() {
		var c *container
		if c, findErr = l.containers.find(ref); findErr == nil {
			f(c)
		} else if errors.Is(findErr, ErrUnknown) && listed == nil && !knows(l.services, ref) {
			listed = l.listing.fresh()
		}
	}
	err := l.Do(ctx, try)
	if err != nil || listed == nil {
		return errors.Join(err, findErr)
	}
	select {
	case <-listed:
		err = l.Do(ctx, try)
	case <-time.After(freshWithin):
	case <-ctx.Done():
	case <-l.Stopped():
	}
	return errors.Join(err, findErr)
}

// Find copies one container, with every guard's answer to its decisions.
func (l *Loop) Find(
	ctx context.Context, ref string,
) (v ContainerStatus, guards [2][]execute.GuardResult, err error) {
	err = l.with(ctx, ref, func(c *container) {
		v = c.status(l.o.Now())
		now := l.o.Now()
		v.Learned, v.Outlooks = c.service.Learned(now, &c.Policy), c.service.Outlooks(c.Policy.Class)
		v.Learned.Image = c.facts(now).Image
		v.Adaptive, v.HasAdaptive = c.service.Thresholds(&c.Policy, c.Window.Quota)
		v.Threshold = c.service.Steering(&c.Policy, &c.Envelope)
		for r := range c.planned {
			d := c.planned[r].Decision
			d.Resource = knowledge.Resource(r)
			d.From = c.Limit(d.Resource)
			if d.Verb == knowledge.Hold {
				d.To = d.From
			}
			guards[r] = execute.Explain(l.exec.Request(now, &c.Container, &d))
		}
	})
	return v, guards, err
}

// Points are the readings of one container since t, oldest first.
func (l *Loop) Points(
	ctx context.Context, ref string, t time.Time,
) (v ContainerStatus, points []knowledge.Point, err error) {
	err = l.with(ctx, ref, func(c *container) {
		v = c.status(l.o.Now())
		points = c.ring.Since(nil, t)
	})
	return v, points, err
}

// Recorded is what the loop has in memory of a service's demand; the disk has more.
type Recorded struct {
	Service knowledge.ServiceKey
	Running [history.TierCount][]history.Bucket // complete ones, oldest first
	Points  [][]knowledge.Point                 // of each container, oldest first
}

// Recorded finds a service by its name, or by a container of it. A name that it
// does not know may be a service's that is on the disk only: it is no error.
func (l *Loop) Recorded(ctx context.Context, name string, since time.Time) (r Recorded, err error) {
	doErr := l.Do(ctx, func() {
		r.Service = knowledge.ServiceKey(name)
		if c, findErr := l.containers.find(name); findErr == nil {
			r.Service = c.service.Key
		} else if !errors.Is(findErr, ErrUnknown) {
			err = findErr
			return
		}
		s := l.services.Lookup(r.Service)
		if s == nil {
			return
		}
		for _, tier := range history.Tiers() {
			r.Running[tier] = s.Series.Running(tier)
		}
		for c := range l.containers.of(s) {
			r.Points = append(r.Points, c.ring.Since(nil, since))
		}
	})
	return r, errors.Join(doErr, err)
}

// LimitInForce is the limit of a container's resource, as the kernel holds it, or with start
// what it starts with, as the Engine does; waits is true while a container that is there is
// not measured, or inspected, yet. It runs on the loop's goroutine, from OnReady and OnTick.
func (l *Loop) LimitInForce(
	id knowledge.ContainerID, r knowledge.Resource, start bool,
) (limit int64, ok, waits bool) {
	c := l.containers.byID[id]
	if c == nil {
		return 0, false, false
	}
	if start {
		return c.Starts(r), c.Inspected, !c.Inspected
	}
	if c.Probe == nil || c.Window.Have&knowledge.HasLimits == 0 {
		return 0, false, true
	}
	return c.Limit(r), true, false
}
