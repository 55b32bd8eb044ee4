// Package plan turns findings into decisions: the reflex of one container, the
// division of a host's CPU, and the envelope of the deliberation around the reflex.
// It is pure: now is an argument, and a decision is complete. The reflex allocates
// nothing.
package plan

import (
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// Reflex is the fast loop's state of one container. The zero value is ready. It
// belongs to one goroutine. CPU, Memory and Weight may be called any number of times:
// at the same instant the result is the same. Only Applied and SharesApplied, called
// for what took effect, change it.
type Reflex struct {
	// Before are the limits that the container had before they were put back, by resource;
	// 0: none. It settles there again without watching it anew.
	Before [2]int64

	cpu    cpuController
	memory memoryController
	// sharesAt is when the share last changed.
	sharesAt time.Time
}

// Applied records the change that took effect, after pool and guards. It may be left
// out for a decision that changed nothing.
func (r *Reflex) Applied(now time.Time, d knowledge.Decision) {
	if d.From == d.To {
		return
	}
	grew := d.To == 0 || (d.From != 0 && d.To > d.From)
	if d.Resource == knowledge.ResourceMemory {
		r.memory.applied(now, d, grew)
		return
	}
	r.cpu.applied(now, d, grew)
}

// hold is the decision to leave a resource as it is.
func hold(now time.Time, w *knowledge.Window, res knowledge.Resource, limit int64) knowledge.Decision {
	return knowledge.Decision{
		ID: w.ID, Resource: res, Verb: knowledge.Hold, Actor: knowledge.ActorReflex,
		At: now, From: limit, To: limit,
	}
}

// because returns d, which holds, with its reason.
func because(d knowledge.Decision, r knowledge.Reason) knowledge.Decision {
	d.Reason = r
	return d
}

// least is the smaller of two bounds of which 0 is none, and most when both are.
func least[T ~int64](a, b, most T) T {
	if a > 0 {
		most = min(most, a)
	}
	if b > 0 {
		most = min(most, b)
	}
	return most
}

// left is what remains of span since t, never negative.
func left(now, t time.Time, span time.Duration) time.Duration {
	if t.IsZero() {
		return 0
	}
	return max(span-now.Sub(t), 0)
}
