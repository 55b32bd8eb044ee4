package docker

import (
	"context"
	"fmt"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/effiscale/effiscale/knowledge"
)

// recordedOf keeps the Engine's fields as they are.
func recordedOf(r *container.Resources) knowledge.Recorded {
	return knowledge.Recorded{NanoCPUs: r.NanoCPUs, Quota: r.CPUQuota, Period: r.CPUPeriod,
		Memory: r.Memory, MemorySwap: r.MemorySwap}
}

// recorded are the Engine's fields of limits, also of those that an earlier version kept
// without them.
func recorded(l *knowledge.Limits) knowledge.Recorded {
	r := resourcesOf(*l)
	return recordedOf(&r)
}

// Restore sends the limit of one resource as it was recorded, field by field, without bounds
// and without rounding. left names what the Engine cannot set back, which is no error: an
// update cannot remove a limit, nor set a field to 0 again. Of a limit that cannot be removed
// the record keeps the host's total, or a quota of -1. Unlimited swap comes into the record, and
// is in force from the next start on.
func (c *Client) Restore(
	ctx context.Context, id knowledge.ContainerID, what knowledge.Resource, l knowledge.Limits,
) (left string, err error) {
	was, op, set := recorded(&l), opUpdateCPU, (*session).restoreCPU
	if what == knowledge.ResourceMemory {
		op, set = opUpdateMemory, (*session).restoreMemory
	}
	err = c.act(ctx, op, id, c.o.UpdateTimeout, func(ctx context.Context, s *session) error {
		k, err := s.inspect(ctx, id)
		if err != nil {
			return err
		}
		if left = differ(what, was, k.Limits.Recorded); left == "" {
			return nil
		}
		if err := set(s, ctx, id, was, k.Limits.Recorded); err != nil {
			return err
		}
		if k, err = s.inspect(ctx, id); err == nil {
			left = differ(what, was, k.Limits.Recorded)
		}
		return err
	})
	return left, err
}

func (s *session) restoreCPU(ctx context.Context, id knowledge.ContainerID, was, now knowledge.Recorded) error {
	var r container.Resources
	switch {
	case was.NanoCPUs != 0:
		r.NanoCPUs = was.NanoCPUs
	case was.Quota != 0:
		r.CPUQuota, r.CPUPeriod = was.Quota, was.Period
		if was.Period == 0 && now.Period != 0 {
			r.CPUPeriod = knowledge.DefaultPeriod.Microseconds() // which 0 stands for
		}
	case now.NanoCPUs != 0:
		h, err := s.knownHost(ctx)
		if err != nil {
			return err
		}
		r.NanoCPUs = int64(h.CPUs) * int64(knowledge.OneCPU)
	default:
		r.CPUQuota, r.CPUPeriod = -1, was.Period
	}
	return s.update(ctx, id, r)
}

func (s *session) restoreMemory(ctx context.Context, id knowledge.ContainerID, was, _ knowledge.Recorded) error {
	h, err := s.knownHost(ctx)
	if err != nil {
		return err
	}
	total := int64(h.Memory / page * page)
	r := container.Resources{Memory: was.Memory, MemorySwap: was.MemorySwap}
	if was.Memory == 0 {
		r = container.Resources{Memory: total, MemorySwap: 2 * total}
	}
	if r.MemorySwap == -1 { // it does not reach the kernel, whose own value may be too low
		first := r
		first.MemorySwap = r.Memory + total
		if err := s.update(ctx, id, first); err != nil {
			return err
		}
	}
	return s.update(ctx, id, r)
}

func (s *session) update(ctx context.Context, id knowledge.ContainerID, r container.Resources) error {
	_, err := s.api.ContainerUpdate(ctx, string(id), container.UpdateConfig{Resources: r})
	return err
}

// differ names the fields of one resource that are not as they were; "": none.
func differ(what knowledge.Resource, was, now knowledge.Recorded) (text string) {
	type field struct {
		name     string
		was, now int64
	}
	fields := []field{{"NanoCpus", was.NanoCPUs, now.NanoCPUs}, {"CpuQuota", was.Quota, now.Quota},
		{"CpuPeriod", was.Period, now.Period}}
	if what == knowledge.ResourceMemory {
		fields = []field{{"Memory", was.Memory, now.Memory}, {"MemorySwap", was.MemorySwap, now.MemorySwap}}
	}
	for _, f := range fields {
		if f.now == f.was {
			continue
		}
		if text != "" {
			text += ", "
		}
		text += fmt.Sprintf("%s %d instead of %d", f.name, f.now, f.was)
	}
	if text != "" {
		text = "the Engine's record keeps " + text + ": an update cannot set it back"
	}
	return text
}

// sentPeriod is the period that is sent with a quota: without one, runc uses 100 ms (v2) after an
// update of memory alone. The default is not sent where the record has no period, because an
// update cannot remove it again.
func sentPeriod(l *knowledge.Limits, period time.Duration) int64 {
	if l.Recorded.Quota != 0 && l.Recorded.Period == 0 && period == knowledge.DefaultPeriod {
		return 0
	}
	return period.Microseconds()
}
