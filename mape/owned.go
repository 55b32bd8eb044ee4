package mape

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/plan"
)

// Owners are the nodes that plan for this host's services: where reports go, and
// where envelopes come from, by Obey.
type Owners interface {
	// Report takes what this host's replicas did since the last deliberation. It
	// never blocks, and the reports are its own from then on.
	Report(reports []plan.Report)
}

// deliberate is the slow clock. What is managed is reported to the owners of its
// service, which declare its envelopes; what is only watched, and a loop without
// owners, is deliberated upon here.
func (l *Loop) deliberate(now time.Time) {
	l.services.Forecast(now, l.set.DeliberateEvery, l.o.Now)
	for _, c := range l.order {
		if c.Probe == nil && c.Envelope.At.IsZero() {
			continue
		}
		if !l.owned(c) {
			l.envelope(now, c)
		}
	}
	l.report(now)
}

// owned reports whether a container's envelope is its service's owner's to declare.
func (l *Loop) owned(c *container) bool {
	return l.o.Owners != nil && c.Policy.Acts() && c.Probe != nil
}

// greetEvery spaces the reports for the sake of containers that have just come: their
// owners' first word should not take a whole interval, nor should a host where
// containers come all the time speak all the time.
const reportNewEvery = 2 * time.Second

// greet reports what has come since the last deliberation.
func (l *Loop) reportNew(now time.Time) {
	if l.unreported && now.Sub(l.reportedAt) >= reportNewEvery {
		l.report(now)
	}
}

func (l *Loop) report(now time.Time) {
	if l.o.Owners == nil {
		return
	}
	l.reportedAt, l.unreported = now, false
	at := map[knowledge.ServiceKey]int{}
	var reports []plan.Report
	for _, c := range l.order {
		if !l.owned(c) {
			continue
		}
		i, ok := at[c.service.Key]
		if !ok {
			i = len(reports)
			at[c.service.Key] = i
			reports = append(reports, plan.Report{
				Service: c.service.Key, Host: l.o.Node, CPUs: l.o.Host.CPUs, Memory: l.o.Host.Memory, Every: l.set.DeliberateEvery,
			})
		}
		if len(reports[i].Replicas) == plan.ReplicasMost {
			l.envelope(now, c) // one too many: it is deliberated upon here
			c.DeclaredAt = now
			continue
		}
		reports[i].Replicas = append(reports[i].Replicas, l.reported(now, c))
	}
	l.o.Owners.Report(reports)
}

func (l *Loop) reported(now time.Time, c *container) plan.Reported {
	r := plan.Reported{
		ID: c.ID, Policy: c.Policy, Facts: c.facts(now), Envelope: c.Envelope,
		Quota: c.Window.Quota, Limit: c.Window.MemoryLimit, WorkingSet: c.Window.WorkingSet,
	}
	if !c.Envelope.At.IsZero() {
		r.Stood = max(now.Sub(c.Envelope.At), 0)
	}
	r.Policy.Problems, r.Policy.CPUSource, r.Policy.MemorySource, r.Envelope.At = nil, "", "", time.Time{}
	r.Plausible(l.o.Host.CPUs, l.o.Host.Memory)
	return r
}

// Obeyed is what a host made of an owner's intents.
type IntentResult struct {
	Replicas int // whose envelopes were taken over
	Unknown  int // in the intents, and not (or no longer) here
}

// Obey takes over envelopes that were declared for this host, confined to what its
// own policies allow. Whether an intent's term is the highest is for the caller to
// know. Nothing that this loop deliberates upon itself is changed.
func (l *Loop) ApplyIntents(ctx context.Context, intents []knowledge.Intent) (done IntentResult, err error) {
	doErr := l.Do(ctx, func() {
		now := l.o.Now()
		if now.Sub(l.lastTick) > lateBy { // frozen: what was decided meanwhile is not known yet
			err = errLate
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

var errLate = errors.New("this node has just been frozen: say it again")

func (l *Loop) applyEnvelope(now time.Time, in *knowledge.Intent, a *knowledge.Assigned) bool {
	c := l.containers[a.ID]
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
func (l *Loop) Envelopes(ctx context.Context, key knowledge.ServiceKey) (map[knowledge.ContainerID]knowledge.Envelope, error) {
	out := map[knowledge.ContainerID]knowledge.Envelope{}
	err := l.Do(ctx, func() {
		for _, c := range l.order {
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

// ReportSoon makes the next pass deliberate: the owners are others now.
func (l *Loop) ReportSoon(ctx context.Context) error {
	return l.Do(ctx, func() { l.deliberateAt = time.Time{} })
}
