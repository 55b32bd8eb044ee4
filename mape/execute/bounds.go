package execute

import (
	"errors"
	"syscall"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// guardCgroup keeps a limit within what the cgroups around the container's allow: a higher
// one is refused by the kernel or has no effect. A restore is tried as it was.
func guardCgroup(req *Request, to int64) (int64, knowledge.Reason) {
	b, from := &req.Container.Window.Bounds, req.Decision.From
	if req.restores() || to == 0 || to == from {
		return to, knowledge.Reason{}
	}
	most, least, by, scale := int64(b.CPU), int64(b.CPULeast), b.CPUBy, 1e-9
	if req.Decision.Resource == knowledge.ResourceMemory {
		most, least, by, scale = int64(b.Memory), 0, knowledge.BoundParent, 1
	}
	switch {
	case most > 0 && to > most && (from == 0 || to > from):
		r := knowledge.Because(knowledge.RuleOuterMost, float64(to)*scale, float64(most)*scale)
		r.Note = by.String()
		if from >= most {
			return from, r
		}
		return most, r
	case to < least:
		r := knowledge.Because(knowledge.RuleOuterLeast, float64(to)*scale, float64(least)*scale)
		r.Note = b.CPULeastBy.String()
		return least, r
	}
	return to, knowledge.Reason{}
}

const (
	// refusedFor is how long a value that was refused bounds others, where nothing shows
	// that it would be taken now.
	refusedFor = time.Hour
	// refusedPart is the least change of a limit that is tried below a refused one, as a
	// part of it.
	refusedPart = 20
)

// refusal is a limit that the kernel or the Engine refused, and under which circumstances.
type refusal struct {
	from, to int64 // to 0: none
	at       time.Time
	text     string
	bounds   knowledge.Bounds
	started  time.Time
	usage    knowledge.Bytes
}

// refuse remembers a refused value.
func (c *Container) refuse(now time.Time, r *knowledge.Resize, err error) {
	c.retry[r.Resource].refused = c.refusal(now, r, err)
}

func (c *Container) refusal(now time.Time, r *knowledge.Resize, err error) *refusal {
	bounds := c.Window.Bounds
	bounds.OOM = 0
	return &refusal{from: r.From, to: r.To, at: now, text: err.Error(), bounds: bounds,
		started: c.StartedAt, usage: c.Window.MemoryUsage}
}

// repeats reports whether a value is the refused one, under the same circumstances.
func (f *refusal) repeats(now time.Time, c *Container, r knowledge.Resource, to int64) bool {
	bounds := c.Window.Bounds
	bounds.OOM = 0
	if f == nil || f.to != to || now.Sub(f.at) >= refusedFor || bounds != f.bounds || !c.StartedAt.Equal(f.started) {
		return false
	}
	return r != knowledge.ResourceMemory || c.Window.MemoryUsage >= f.usage-f.usage/refusedPart
}

// holds reports whether a refusal still says something about a value: the circumstances are
// the same.
func (f *refusal) holds(now time.Time, c *Container, r knowledge.Resource) bool {
	if f == nil {
		return false
	}
	bounds := c.Window.Bounds
	bounds.OOM = 0
	switch grew := f.to > f.from; {
	case f.to == 0 || f.from == 0 || now.Sub(f.at) >= refusedFor || bounds != f.bounds || !c.StartedAt.Equal(f.started):
		return false
	case grew && (c.Limit(r) < f.from || c.Limit(r) >= f.to), !grew && (c.Limit(r) > f.from || c.Limit(r) <= f.to):
		return false // the limit is another one
	case r == knowledge.ResourceMemory && !grew: // the kernel refuses a limit below use
		return c.Window.MemoryUsage >= f.usage-f.usage/refusedPart
	}
	return true
}

// guardRefused does not repeat what was refused: between the limit in force and the refused
// one the middle is tried, as long as that is a change worth making.
func guardRefused(req *Request, to int64) (int64, knowledge.Reason) {
	f, from := req.Container.retry[req.Decision.Resource].refused, req.Decision.From
	if !req.acts() || to == from || !f.holds(req.Now, req.Container, req.Decision.Resource) {
		return to, knowledge.Reason{}
	}
	if grows := f.to > f.from; grows != (to > from) || grows && to < f.to || !grows && to > f.to {
		return to, knowledge.Reason{}
	}
	r := knowledge.Reason{Rule: knowledge.RuleRefused, Note: f.text}
	middle := from + (f.to-from)/2
	if max(middle-from, from-middle) < from/refusedPart {
		return from, r
	}
	return middle, r
}

// invalid reports whether the kernel refused a value, not the write: a cgroup above or inside
// allows another one.
func invalid(err error) bool { return errors.Is(err, syscall.EINVAL) }
