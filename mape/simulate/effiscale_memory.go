package simulate

import (
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/profile"
	"github.com/effiscale/effiscale/mape/analyse"
	"github.com/effiscale/effiscale/mape/plan"
)

// memoryLoop is the daemon's loop for memory: a profile that remembers peaks, the
// deliberation that makes an envelope of it, and the reflex that moves the limit
// inside. It reads once a step, so that a decision takes effect a step later; all
// memory counts as anonymous, which reclaim cannot take.
type memoryLoop struct {
	policy   knowledge.Policy
	host     knowledge.Host
	window   knowledge.Window
	profile  *profile.Profile
	envelope knowledge.Envelope
	reflex   plan.Reflex
	next     time.Duration // deliberation
	minute   time.Duration // the end of the running one
	peak     knowledge.Bytes
	anon     highest
	rise     float64
	limited  bool // before, it may use the host's memory
}

const (
	memoryDeliberates = 10 * time.Second
	memoryPeaks       = time.Minute
	memoryAnon        = 30 * time.Minute
)

// newMemoryLoop makes the daemon's own policy for memory.
func newMemoryLoop(o Options) *memoryLoop {
	host := knowledge.Bytes(firstMemory)
	if o.HostMemory > 0 {
		host = knowledge.Bytes(o.HostMemory)
	}
	return &memoryLoop{
		policy: o.Policy, host: knowledge.Host{CPUs: 1, Memory: 2 * host}, profile: profile.New(),
		anon: highest{window: memoryAnon},
		window: knowledge.Window{
			Have:  knowledge.HasCPU | knowledge.HasMemory | knowledge.HasMemoryStat | knowledge.HasOOM | knowledge.HasLimits,
			Since: epoch(0),
		},
	}
}

// Decide implements Policy. The daemon reads every ten seconds at least, so a longer
// step is read several times.
func (p *memoryLoop) Decide(s *Seen) Want {
	looks := max(int(s.Dt/memoryDeliberates), 1)
	every := s.Dt / time.Duration(looks)
	limit := s.Memory
	for i := range looks {
		look := *s
		look.Dt, look.At, look.Memory = every, s.At-s.Dt+time.Duration(i+1)*every, limit
		if i < looks-1 {
			look.OOM = 0 // it came at the end
		}
		if v := p.pass(&look); v > 0 {
			limit = v
		}
	}
	if limit == s.Memory {
		return Want{}
	}
	return Want{Memory: limit}
}

// pass is one pass of the loop; 0: the limit stays.
func (p *memoryLoop) pass(s *Seen) float64 {
	now := epoch(s.At)
	w := &p.window
	p.observe(s, now)
	if s.At >= p.next {
		p.next = after(s.At, p.next, memoryDeliberates)
		facts := plan.Facts{
			MemoryNeed: p.profile.MemoryNeed(p.policy.MemoryPercentile), MemoryPeak: p.profile.MemoryMax(), ObservedFor: s.At,
		}
		if need, limit, ok := p.reflex.MemorySize(now, w, &p.policy); ok {
			facts.MemoryNeed, facts.MemoryLimit = need, limit
		}
		p.envelope = plan.Deliberate(now, facts, &p.policy, p.host, p.envelope)
	}
	f := analyse.Assess(now, w, &p.policy, nil, 3*s.Dt)
	d := p.reflex.Memory(now, &f, w, &p.envelope, &p.policy)
	if d.Verb == knowledge.Hold {
		return 0
	}
	p.limited = true
	p.reflex.Applied(now, d)
	return float64(d.To)
}

// observe makes the window that the monitor would make of the step.
func (p *memoryLoop) observe(s *Seen, now time.Time) {
	w := &p.window
	used := s.Usage / float64(max(s.Replicas(), 1))
	use := knowledge.Bytes(used)
	w.At, w.Interval, w.Samples = now, s.Dt, w.Samples+1
	w.Reaction = 2 * s.Dt / 3 // so that growth is covered until the next look
	w.Growth = max(used-p.rise, 0) / s.Dt.Seconds()
	if w.Samples == 1 {
		w.Growth = 0
	}
	p.rise = used
	w.MemoryUsage, w.WorkingSet, w.Anon, w.Hard = use, use, use, use
	w.AnonPeak = knowledge.Bytes(p.anon.add(s.At, used))
	if w.MemoryLimit = 0; p.limited {
		w.MemoryLimit = knowledge.Bytes(s.Memory)
	}
	w.OOMKills = uint64(s.OOM)
	if s.OOM > 0 {
		w.LastOOM = now
	}
	p.peak = max(p.peak, use)
	w.PeakMinute = p.peak
	if s.At >= p.minute {
		p.profile.AddMemoryPeak(now, p.peak)
		p.minute, p.peak = after(s.At, p.minute, memoryPeaks), 0
	}
}
