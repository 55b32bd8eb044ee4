package docker

import (
	"context"
	"fmt"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/effiscale/effiscale/knowledge"
)

// Limits of the Engine and the kernel.
const (
	page       = 4096                   // the kernel rounds a memory limit down to pages
	leastMem   = 6 * knowledge.MiB      // less is HTTP 400 (moby issue 41167)
	leastCPU   = knowledge.OneCPU / 100 // 0.005 passes the Engine's check and fails in the kernel
	leastQuota = time.Millisecond       // of cpu.cfs_quota_us
	leastShare = 2
	mostShare  = 262144
)

// UpdateCPU sets l.CPU in the form of l.Dialect, and nothing else. 0 removes the limit
// by setting all CPUs of the host: a quota of -1 would stay in the Engine's record and
// disable a later limit at the next restart. A limit is brought between 0.01 and the
// CPUs of the host.
func (c *Client) UpdateCPU(ctx context.Context, id knowledge.ContainerID, l knowledge.Limits) error {
	period := l.Period
	if period == 0 {
		period = knowledge.DefaultPeriod
	}
	switch {
	case l.CPU < 0:
		return refuse(opUpdateCPU, string(id), fmt.Sprintf("%d nano-CPUs is negative", l.CPU))
	case period < time.Millisecond || period > time.Second:
		return refuse(opUpdateCPU, string(id), fmt.Sprintf("a period of %s is outside 1ms to 1s", period))
	}
	return c.update(ctx, opUpdateCPU, id, func(ctx context.Context, s *session) (r container.Resources, err error) {
		h, err := s.knownHost(ctx)
		if err != nil {
			return r, err
		}
		all := knowledge.NanoCPU(h.CPUs) * knowledge.OneCPU
		cpu := min(max(l.CPU, leastCPU), all)
		if l.CPU == 0 {
			cpu = all
		}
		if l.Dialect != CPUQuota {
			r.NanoCPUs = int64(cpu)
			return r, nil
		}
		r.CPUPeriod = sentPeriod(&l, period)
		r.CPUQuota = max(quotaOf(cpu, period), leastQuota.Microseconds())
		return r, nil
	})
}

// quotaOf is cpu as microseconds per period, to the nearest.
func quotaOf(cpu knowledge.NanoCPU, period time.Duration) int64 {
	return (int64(cpu)*period.Microseconds() + int64(knowledge.OneCPU)/2) / int64(knowledge.OneCPU)
}

// UpdateMemory sets the memory limit and memory+swap in one request: one without the
// other is refused for growth, and for the first limit of a container (moby issues 39541
// and 47874). mem 0 removes the limit, which the Engine cannot do: the host's total is
// set. mem is rounded down to whole pages and brought between 6 MiB and the host's total.
//
// swap is memory+swap, as knowledge.Limits counts it, and at least mem. 0 keeps the
// container's allowance of swap beside the memory, as recorded by the Engine; a container
// without a limit gets as much swap as memory, the Engine's default. Unlimited swap (-1,
// given or recorded) is sent as an allowance of the host's total: the Engine stores -1,
// and does not pass it to the kernel.
func (c *Client) UpdateMemory(ctx context.Context, id knowledge.ContainerID, mem, swap knowledge.Bytes) error {
	if mem < 0 || swap < -1 {
		return refuse(opUpdateMemory, string(id),
			fmt.Sprintf("a size of %d bytes with %d of memory and swap is negative", mem, swap))
	}
	return c.update(ctx, opUpdateMemory, id, func(ctx context.Context, s *session) (r container.Resources, err error) {
		h, err := s.knownHost(ctx)
		if err != nil {
			return r, err
		}
		to := min(max(mem, leastMem), h.Memory) / page * page
		if mem == 0 {
			to = h.Memory / page * page
		}
		with := min(swap, knowledge.MaxBytes)
		switch {
		case swap == -1:
			with = to + h.Memory
		case swap == 0:
			k, err := s.inspect(ctx, id)
			if err != nil {
				return r, err
			}
			with = to + allowance(k.Limits, to, h.Memory)
		}
		r.Memory = int64(to)
		r.MemorySwap = int64(max(with/page*page, to))
		return r, nil
	})
}

// allowance is how much swap a container with limits l may use beside a memory
// limit of to.
func allowance(l knowledge.Limits, to, host knowledge.Bytes) knowledge.Bytes {
	switch {
	case l.MemorySwap < 0:
		return host
	case l.Memory == 0 || l.MemorySwap == 0:
		return to
	}
	return max(l.MemorySwap-l.Memory, 0)
}

// UpdateShares sets the CPU shares, brought between 2 and 262144; 0 is the default, 1024.
func (c *Client) UpdateShares(ctx context.Context, id knowledge.ContainerID, shares int64) error {
	if shares < 0 {
		return refuse(opUpdateShares, string(id), fmt.Sprintf("%d shares is negative", shares))
	}
	if shares == 0 {
		shares = 1024
	}
	return c.update(ctx, opUpdateShares, id, func(context.Context, *session) (container.Resources, error) {
		return container.Resources{CPUShares: min(max(shares, leastShare), mostShare)}, nil
	})
}

// update sends one resource, never a restart policy.
func (c *Client) update(ctx context.Context, op operation, id knowledge.ContainerID,
	resources func(context.Context, *session) (container.Resources, error),
) error {
	return c.act(ctx, op, id, c.o.UpdateTimeout, func(ctx context.Context, s *session) error {
		r, err := resources(ctx, s)
		if err != nil {
			return err
		}
		answer, err := s.api.ContainerUpdate(ctx, string(id), container.UpdateConfig{Resources: r})
		if err != nil {
			return err
		}
		for _, w := range answer.Warnings[:min(len(answer.Warnings), 16)] {
			c.o.Log.Debug().Str("op", op.name).Str("id", string(id)).Str("warning", clean(w)).Msg("Docker Engine warned")
		}
		return nil
	})
}

// refuse is the error of a value that is not sent.
func refuse(op operation, id, why string) error {
	return &Error{Op: op.name, ID: clean(id), Kind: KindRefused, Message: why}
}
