package mape

import (
	"context"
	"errors"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/analyse"
	"github.com/effiscale/effiscale/mape/execute"
	"github.com/effiscale/effiscale/mape/plan"
	"github.com/effiscale/effiscale/mape/service"
)

// Unit is a copy of what the loop knows of one container.
type ContainerStatus struct {
	execute.Container
	Planned   [2]Planned
	IfManaged [2]knowledge.Decision // the limits that it would have if it were managed; Hold: see the reason
	// Paused is the pause of its service that holds, if any.
	Paused      knowledge.Pause
	AttachError string // why it is not measured; empty: it is
	Measured    bool
	Kills       uint64 // OOM kills since the cgroup was made
	Busy        bool   // an action is on its way
	// Watching: a cut is under watch, or the first step of one is.
	Watching bool
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
	// Threshold says what they do to the limit, or why they do nothing yet.
	Threshold knowledge.Reason
}

// Summary is a copy of what the loop knows of the host.
type Summary struct {
	Host                    execute.Host
	Settings                Settings
	HostCPU                 knowledge.NanoCPU
	HostUsed, HostAvailable knowledge.Bytes
	Pool, Granted           knowledge.NanoCPU
	Ready                   bool
	StoreError, ListError   string // of the newest try; empty: it went well
	Repaired                int
	Started, LastTick       time.Time
	Cadence                 time.Duration // of busy containers, after spreading
}

func (l *Loop) copy(c *container) ContainerStatus {
	now := l.o.Now()
	v := ContainerStatus{
		Container: c.Container, Planned: c.planned, AttachError: c.attachError,
		Measured: c.Probe != nil, Kills: c.track.Kills(), Busy: c.InFlight, Watching: c.Watched(now),
	}
	w := c.track.Window
	v.Window = &w
	v.Ahead = c.service.Ahead(&c.Policy)
	v.Pattern, v.MemoryPattern = c.service.Patterns()
	if c.Pause.Active(now) {
		v.Paused = *c.Pause
	}
	v.Pause = &v.Paused
	v.Probe = nil
	v.IfManaged[0], v.IfManaged[1] = plan.WouldBe(now, c.facts(now), &w, &v.Envelope, &v.Policy)
	return v
}

// Units copies all containers and the host's figures.
func (l *Loop) Containers(ctx context.Context) (units []ContainerStatus, sum Summary, err error) {
	err = l.Do(ctx, func() {
		units = make([]ContainerStatus, 0, len(l.order))
		for _, c := range l.order {
			units = append(units, l.copy(c))
		}
		sum = l.summary()
	})
	return units, sum, err
}

func (l *Loop) summary() Summary {
	s := Summary{
		Host: l.exec.Host, Settings: l.set, HostCPU: l.hostCPU, HostUsed: l.hostUsed, HostAvailable: l.hostAvailable,
		Pool: l.pool(), Ready: l.ready, StoreError: l.storeErr, ListError: l.listErr, Repaired: l.exec.Repairs(), Started: l.begin, LastTick: l.lastTick, Cadence: l.cadence.Busy,
	}
	for _, c := range l.order {
		if c.Policy.Acts() && c.Probe != nil {
			s.Granted += c.Window.Quota
		}
	}
	return s
}

// Find copies one container, with what every guard says of its wishes.
func (l *Loop) Find(ctx context.Context, ref string) (v ContainerStatus, verdicts [2][]execute.GuardResult, err error) {
	doErr := l.Do(ctx, func() {
		c, findErr := l.find(ref)
		if err = findErr; err != nil {
			return
		}
		v = l.copy(c)
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
			req := execute.Request{Now: now, Decision: &d, Container: &c.Container, Host: &l.exec.Host, Rules: &l.exec.Rules}
			verdicts[r] = execute.Explain(&req)
		}
	})
	return v, verdicts, errors.Join(doErr, err)
}

// Points are the readings of one container since t, oldest first.
func (l *Loop) Points(ctx context.Context, ref string, t time.Time) (v ContainerStatus, points []knowledge.Point, err error) {
	doErr := l.Do(ctx, func() {
		c, findErr := l.find(ref)
		if err = findErr; err == nil {
			v = l.copy(c)
			points = c.ring.Since(nil, t)
		}
	})
	return v, points, errors.Join(doErr, err)
}

// SetHost takes over what the Engine says of the machine, when it answers late.
func (l *Loop) SetHost(h knowledge.Host) {
	l.o.Host = h
	l.exec.Host.CPUs, l.exec.Host.Memory = h.CPUs, h.Memory
	l.exec.Host.CPUPool = l.pool()
	for _, c := range l.order {
		c.Policy = l.set.Policy(c.Container.Container)
		l.envelope(l.lastTick, c)
	}
}

// Held is the limit in force of a container's resource, as the kernel holds it;
// waits is true while a container that is there is not measured yet. It runs on the
// loop's goroutine, from OnReady and OnTick.
func (l *Loop) LimitInForce(id knowledge.ContainerID, r knowledge.Resource) (limit int64, ok, waits bool) {
	c := l.containers[id]
	if c == nil {
		return 0, false, false
	}
	if c.Probe == nil || c.Window.Have&knowledge.HasLimits == 0 {
		return 0, false, true
	}
	return c.Limit(r), true, false
}

// Unadopted reports whether limits that a killed life left were not compared with the
// Engine in this one, which was too short: the next life has to. It is for after the
// loop's end.
func (l *Loop) Unadopted() bool {
	if !l.o.Restored.Unclean {
		return false
	}
	for _, c := range l.order {
		if c.Adopt && !c.Gone && c.Policy.Acts() {
			return true
		}
	}
	return !l.listed
}
