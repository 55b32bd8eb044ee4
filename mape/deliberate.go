package mape

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/plan"
)

// reportNewEvery spaces the reports about containers that came since the last one:
// their owners need not wait a whole interval, and a host where containers come all
// the time does not send all the time.
const reportNewEvery = 2 * time.Second

// reports is the state of the reports to owners.
type reports struct {
	at      time.Time
	pending bool // a container came of which no owner knows
}

// deliberate is the slow clock: it sets envelopes from what was learned. What is managed
// is reported to the owners of its service, which declare its envelopes; what is only
// watched, and a loop without owners, is deliberated upon here.
func (l *Loop) deliberate(now time.Time) {
	if !elapsed(&l.deliberateAt, now, l.set.DeliberateEvery) {
		if l.reports.pending && now.Sub(l.reports.at) >= reportNewEvery {
			l.report(now)
		}
		l.services.ForecastPending(now, l.set.DeliberateEvery, l.o.Now)
		return
	}
	started := l.o.Now()
	l.services.Forecast(now, l.set.DeliberateEvery, l.o.Now)
	for _, c := range l.containers.order {
		if (c.Probe != nil || !c.Envelope.At.IsZero()) && !l.owned(c) {
			l.setEnvelope(now, c)
		}
	}
	l.report(now)
	l.o.Meter.ObserveLoop("deliberate", l.o.Now().Sub(started))
}

// setEnvelope deliberates upon one container here.
func (l *Loop) setEnvelope(now time.Time, c *container) {
	c.Envelope = plan.Deliberate(now, c.facts(now), &c.Policy, l.o.Host, c.Envelope)
}

// owned reports whether a container's envelope is its service's owner's to declare.
func (l *Loop) owned(c *container) bool { return l.o.Owners != nil && c.managed() }

// report sends the owners what this host's replicas did.
func (l *Loop) report(now time.Time) {
	if l.o.Owners == nil {
		return
	}
	l.reports = reports{at: now}
	at := map[knowledge.ServiceKey]int{}
	var out []plan.Report
	for _, c := range l.containers.order {
		if !l.owned(c) {
			continue
		}
		i, ok := at[c.service.Key]
		if !ok {
			i = len(out)
			at[c.service.Key] = i
			out = append(out, plan.Report{
				Service: c.service.Key, Host: l.o.Node, CPUs: l.o.Host.CPUs, Memory: l.o.Host.Memory,
				Every: l.set.DeliberateEvery,
			})
		}
		if len(out[i].Replicas) == plan.ReplicasMost {
			l.setEnvelope(now, c) // one too many: it is deliberated upon here
			c.DeclaredAt = now
			continue
		}
		r := c.report(now)
		r.Plausible(l.o.Host.CPUs, l.o.Host.Memory)
		out[i].Replicas = append(out[i].Replicas, r)
	}
	l.o.Owners.Report(out)
}

// report is a container's part of the report of its service.
func (c *container) report(now time.Time) plan.Reported {
	r := plan.Reported{
		ID: c.ID, Policy: c.Policy, Facts: c.facts(now), Envelope: c.Envelope,
		Quota: c.Window.Quota, Limit: c.Window.MemoryLimit, WorkingSet: c.Window.WorkingSet,
	}
	if !c.Envelope.At.IsZero() {
		r.Stood = max(now.Sub(c.Envelope.At), 0)
	}
	r.Policy.Problems, r.Policy.CPUSource, r.Policy.MemorySource, r.Envelope.At = nil, "", "", time.Time{}
	return r
}

// ReportSoon makes the next tick deliberate: the owners changed.
func (l *Loop) ReportSoon(ctx context.Context) error {
	return l.Do(ctx, func() { l.deliberateAt = time.Time{} })
}

// IntentResult is how many replicas of this host an intent reached.
type IntentResult struct {
	Replicas int // whose envelopes were taken over
	Unknown  int // in the intents, and not (or no longer) here
}

var errStalled = errors.New("event loop stalled, retry")

// ApplyIntents takes over envelopes that were declared for this host, confined to what
// its own policies allow. The caller has checked that the intents' terms are the
// highest. Nothing that this loop deliberates upon itself is changed.
func (l *Loop) ApplyIntents(ctx context.Context, intents []knowledge.Intent) (done IntentResult, err error) {
	doErr := l.Do(ctx, func() {
		now := l.o.Now()
		if l.ticks.since(now) > lateBy { // a newer decision may wait in the queue
			err = errStalled
			return
		}
		for i := range intents {
			for j := range intents[i].Envelopes {
				if l.applyEnvelope(now, &intents[i], &intents[i].Envelopes[j]) {
					done.Replicas++
				} else {
					done.Unknown++
				}
			}
		}
	})
	return done, errors.Join(doErr, err)
}

func (l *Loop) applyEnvelope(now time.Time, in *knowledge.Intent, a *knowledge.Assigned) bool {
	c := l.containers.byID[a.ID]
	if c == nil || c.service.Key != in.Service || !l.owned(c) {
		return false
	}
	next := plan.Confine(a.Envelope, &c.Policy, l.o.Host)
	next.At, next.Term = now, in.Term
	if plan.Same(&next, &c.Envelope) && !c.Envelope.At.IsZero() {
		next.At = c.Envelope.At
	}
	c.Envelope, c.DeclaredAt = next, now
	return true
}

// Envelopes are what is in force for a service's replicas here, by container.
func (l *Loop) Envelopes(
	ctx context.Context, key knowledge.ServiceKey,
) (map[knowledge.ContainerID]knowledge.Envelope, error) {
	out := map[knowledge.ContainerID]knowledge.Envelope{}
	err := l.Do(ctx, func() {
		for _, c := range l.containers.order {
			if c.service.Key == key {
				out[c.ID] = c.Envelope
			}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read the envelopes of %s: %w", key, err)
	}
	return out, nil
}
