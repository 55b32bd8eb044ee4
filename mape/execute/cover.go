package execute

import (
	"context"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// cover is the memory limit, and that of memory and swap, that has to be on record before
// something else of the record is updated; the zero value: none. On cgroup v2 with the systemd
// driver each update puts the whole record in force, until the kernel's file is written again:
// less memory than is in use kills.
type cover struct {
	limit, swap knowledge.Bytes
	done        bool // it is on record
}

func (c *Container) cover(update knowledge.Resource, host *Host, kernel bool) (v cover) {
	const r = knowledge.ResourceMemory
	in, set := c.Marks.inForce(r)
	start := c.Marks.start(r)
	if in == 0 {
		in = host.all(r)
	}
	if update == r || !kernel || !set || start == 0 || in <= start || same(r, in, start) {
		return v
	}
	v.limit = knowledge.Bytes(max(min(ahead(c, r, in, host.PutsBack), host.all(r)), in))
	v.swap = c.swapFor(v.limit)
	return v
}

// note remembers the limit before it is sent.
func (v *cover) note(now time.Time, c *Container) {
	if v.limit != 0 {
		c.noteSent(now, knowledge.ResourceMemory, int64(v.limit))
	}
}

// send is the worker's part.
func (v *cover) send(ctx context.Context, engine Resizer, id knowledge.ContainerID) error {
	if v.limit == 0 {
		return nil
	}
	err := engine.UpdateMemory(ctx, id, v.limit, v.swap)
	v.done = err == nil
	return err
}

// sent takes over that it is on record.
func (v *cover) sent(e *Executor, c *Container) {
	if v.done {
		c.answered(e.engine, knowledge.ResourceMemory, int64(v.limit), nil)
		c.engineUpdated(knowledge.ResourceMemory, int64(v.limit), &e.Host)
	}
}
