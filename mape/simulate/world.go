package simulate

import (
	"math"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// Options is the world in which a trace is replayed. The zero value is not
// usable; Defaults makes one.
type Options struct {
	Axis Axis
	// Target is use over capacity that horizontal policies aim for, 0..1.
	Target float64
	// ReplicaCores is the size of a replica where its number is what changes, and
	// the first limit where its size is.
	ReplicaCores float64
	// StartDelay is how long after the decision a new replica serves. A row of a trace is
	// a reading at its instant, and so is the decision that follows from it: a decision on
	// the reading of 3600 s serves from 3610 s on, and never before the next step.
	StartDelay time.Duration
	// Min and Max bound the number of replicas.
	Min, Max int
	// HostCores and HostMemory are the host's capacity; 0: unbounded.
	HostCores, HostMemory float64
	// Policy is what EffiScale holds to; the peers have no use for it.
	Policy knowledge.Policy
	// Latency: what the requests had to wait for is modelled, too.
	Latency bool
}

// Defaults are the options without any flag; the policy is that of the
// configuration, class serving.
func Defaults() Options {
	return Options{
		Target: 0.7, ReplicaCores: 1, StartDelay: 10 * time.Second, Min: 1, Max: 20, Latency: true,
		Policy: knowledge.Policy{
			Managed: true, Mode: knowledge.ModeAuto,
			CPU:            knowledge.Range[knowledge.NanoCPU]{Min: knowledge.OneCPU / 20},
			Memory:         knowledge.Range[knowledge.Bytes]{Min: 32 * knowledge.MiB},
			ThrottleTarget: 0.06, MemoryPercentile: 0.98, MemoryShrink: true,
			ObserveFirst: time.Minute,
			ShrinkAfter:  10 * time.Minute, ShrinksPerDay: 48, OOMProtect: time.Hour, YieldFor: 10 * time.Minute, Weight: 50,
		},
	}
}

const (
	// leastCores is the kernel's least quota: 1 ms in a period of 100 ms.
	leastCores = 0.01
	// leastMemory is the Engine's least memory limit: 6 MiB.
	leastMemory = 6 << 20
	// firstMemory is the limit in the first step of a memory trace, of which
	// nothing is known: 16 GiB, or the host's memory.
	firstMemory = 16 << 30
	// tolerance is what rounding may make of two figures that are the same.
	tolerance = 1e-9
)

// least and most bound the number of replicas. On the vertical axis only the host
// bounds it, so that policies that count replicas are not at a disadvantage.
func (o *Options) least() int {
	if o.Axis == Vertical {
		return 1
	}
	return max(o.Min, 1)
}

func (o *Options) most() int {
	const unbounded = 1 << 20
	if o.Axis == Vertical {
		return unbounded
	}
	return max(o.Max, 1)
}

// Series is a replay step by step. Index 0 is the first step of the trace, in
// which nothing is known yet and no policy has decided anything; it is not
// scored.
type Series struct {
	// Demand, Allocated and Served are in cores or bytes. Allocated was in force
	// during the step: replicas that serve, times the limit of one.
	Demand, Allocated, Served []float64
	// Reserved counts replicas that are starting, too.
	Reserved []float64
	// Replicas that serve.
	Replicas []int32
	// Moves is the direction of the change at the start of the step: 1, 0 or -1.
	Moves []int8
	OOM   int
	// held is the sum of replicas over time, those that start included: seconds.
	held float64
	// memory: the trace is one of bytes.
	memory bool
	step   time.Duration
	wait   waits
}

// world is the state between two steps.
type world struct {
	o       Options
	memory  bool
	step    time.Duration
	limit   float64 // of one replica: cores or bytes
	ready   int
	pending []pending
	queue   queue
}

// pending are replicas that serve from an instant on.
type pending struct {
	at time.Duration
	n  int
}

// Run replays a trace through a policy. The policy sees only measurements from before
// the step that it decides on.
func Run(t *Trace, p Policy, o Options) *Series {
	demand := t.demand()
	n := len(demand)
	w := &world{o: o, memory: t.Unit == UnitBytes, step: t.Step, limit: o.ReplicaCores, ready: o.least()}
	if w.memory {
		w.limit = firstMemory
		if o.HostMemory > 0 {
			w.limit = o.HostMemory
		}
	}
	s := &Series{
		Demand: demand, Allocated: make([]float64, n), Served: make([]float64, n), Reserved: make([]float64, n),
		Replicas: make([]int32, n), Moves: make([]int8, n), memory: w.memory, step: t.Step,
	}
	seen := Seen{Dt: t.Step}
	for i, d := range demand {
		if i > 0 {
			seen.Step, seen.At = i, time.Duration(i)*t.Step
			w.show(&seen)
			s.Moves[i] = w.apply(seen.At-t.Step, p.Decide(&seen))
		}
		w.start(time.Duration(i) * t.Step)
		w.serve(s, i, d, &seen)
	}
	if o.Latency && !w.memory {
		s.wait = w.queue.waits
	}
	return s
}

func (w *world) starting() int {
	n := 0
	for _, p := range w.pending {
		n += p.n
	}
	return n
}

// show fills in the limits in force.
func (w *world) show(seen *Seen) {
	w.start(seen.At)
	seen.Ready, seen.Starting = w.ready, w.starting()
	if w.memory {
		seen.Memory = w.limit
		return
	}
	seen.Cores = w.limit
}

// start: replicas whose delay is over serve from now on.
func (w *world) start(now time.Duration) {
	kept := w.pending[:0]
	for _, p := range w.pending {
		if p.at <= now {
			w.ready += p.n
			continue
		}
		kept = append(kept, p)
	}
	w.pending = kept
}

// apply carries out a decision, inside the bounds and the host's capacity, and
// returns the direction in which the service moved.
func (w *world) apply(now time.Duration, want Want) int8 {
	limit, n := w.limit, w.ready+w.starting()
	before := limit * float64(n)
	if v := w.size(want); v > 0 {
		limit = v
	}
	if want.Replicas > 0 {
		n = min(max(want.Replicas, w.o.least()), w.o.most())
	}
	limit, n = w.fit(limit, n, want.Replicas > 0)
	w.limit = limit
	w.count(now, n)
	switch after := limit * float64(n); {
	case after > before*(1+tolerance):
		return 1
	case after < before*(1-tolerance):
		return -1
	}
	return 0
}

func (w *world) size(want Want) float64 {
	v, least := want.Cores, leastCores
	if w.memory {
		v, least = want.Memory, leastMemory
	}
	if !(v > 0) || math.IsInf(v, 0) {
		return 0
	}
	return max(v, least)
}

// fit brings limits and replicas into the host's capacity: fewer replicas where their
// number was to change, smaller ones else.
func (w *world) fit(limit float64, n int, counted bool) (float64, int) {
	host := w.o.HostCores
	if w.memory {
		host = w.o.HostMemory
	}
	if host <= 0 || limit*float64(n) <= host {
		return limit, n
	}
	if counted {
		n = max(min(n, int(host/limit)), w.o.least())
	}
	return min(limit, host/float64(n)), n
}

// count starts replicas, or takes some away: first those that do not serve yet.
func (w *world) count(now time.Duration, n int) {
	have := w.ready + w.starting()
	if n > have {
		w.pending = append(w.pending, pending{now + w.o.StartDelay, n - have})
		return
	}
	for have > n {
		last := len(w.pending) - 1
		if last < 0 {
			w.ready -= have - n
			return
		}
		take := min(w.pending[last].n, have-n)
		w.pending[last].n -= take
		have -= take
		if w.pending[last].n == 0 {
			w.pending = w.pending[:last]
		}
	}
}

// serve lets one step pass. CPU: demand is the same in every CFS period of a
// step, so that all periods are throttled or none. Memory: what needs more than
// the limit is killed, and comes back as large as it was.
func (w *world) serve(s *Series, i int, d float64, seen *Seen) {
	capacity := w.limit * float64(w.ready)
	s.Allocated[i] = capacity
	s.Reserved[i] = w.limit * float64(w.ready+w.starting())
	s.Replicas[i] = int32(w.ready)
	served := min(d, capacity)
	s.Served[i] = served
	short := d > capacity*(1+tolerance)
	*seen = Seen{Dt: seen.Dt, Usage: served, Demand: d, Censored: short}
	if w.memory {
		if short {
			seen.Demand, seen.OOM = served, w.ready
			if i > 0 {
				s.OOM += w.ready
			}
		}
		return
	}
	if i > 0 {
		s.held += float64(w.ready+w.starting()) * w.step.Seconds()
	}
	if short {
		seen.Throttle = 1
	}
	if w.o.Latency && i > 0 {
		w.queue.pass(d, capacity, w.limit, w.step.Seconds())
	}
}
