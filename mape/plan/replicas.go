package plan

import (
	"math"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

const (
	// scaleInCalm is how long there must be no surge before a service is made
	// smaller or put together differently (Themis; HyScale).
	scaleInCalm = time.Minute
	// panicSpan and panicRatio: demand over the last 6 s that needs twice what
	// serves it is a panic, which lasts until a minute passed without one
	// (Knative's KPA: panic window 6 s, threshold 200 %, stable window 60 s).
	panicSpan  = 6 * time.Second
	panicRatio = 2.0
	panicFor   = time.Minute
	// scaleInEvery: one replica a minute. scaleInWindow: the highest need of the
	// last 5 min decides (HPA's stabilisation).
	scaleInEvery  = time.Minute
	scaleInWindow = 5 * time.Minute
	// scaleInRoom must be left free after a scale-in, beyond the highest need of
	// the window, so that a level on the edge does not swing: with a target of 70 %
	// and little noise, one of two replicas of a core goes at a level of
	// 0.714/1.03 = 0.69, and comes back at 0.714.
	scaleInRoom = 0.03
	// regrowWithinScaleIn: growth so soon after a scale-in, and not in a panic, shows that
	// the replica should have stayed. The next one then waits for a surplus of
	// scaleInWait without a break, of twice that after another such growth, up to
	// scaleInWaitMost; scaleInWaitReset after the last one it is as before.
	regrowWithinScaleIn = 30 * time.Minute
	scaleInWait         = 10 * time.Minute
	scaleInWaitMost     = 80 * time.Minute
	scaleInWaitReset    = 6 * time.Hour
	// targetSlack: the target may be exceeded by so much before growth.
	targetSlack = 0.02
	// censoredStep is the estimate for demand of which only a lower bound is known, in a
	// service whose replicas are full: 2 full cores may be 4. After censoredSteps in a row
	// it is no chance.
	censoredStep  = 2.0
	censoredSteps = 2
	// sigmaMost bounds the deviations for an accepted risk near 0.
	sigmaMost = 4.0
)

// Seen is what a service did in the last step.
type Seen struct {
	// Demand of all replicas, cores: with a work signal, what the work would use;
	// without one, usage and what throttling held back.
	Demand float64
	// Censored: the throttled demand is unknown, Demand is the use.
	Censored bool
	// Missing replicas serve and have no reading.
	Missing int
	Service ServiceState
	// Forecast is the expected maximum; the zero value: none.
	Forecast Ahead
}

// Ahead is a forecast in values, cores of the whole service. It never lowers a
// need, and counts only when it is trusted.
type Ahead struct {
	// Start bounds the highest demand until a new replica would serve, Calm the
	// highest of the next 5 min (α = 0.01).
	Start, Calm float64
	// Bounds are the quantiles until Start, ascending.
	Bounds  []Bound
	Trusted bool
}

// Scaler is the timing around Choose, for one service. It is of fixed size; the zero
// value is ready. It only delays the choice, and grows at once; it never reverses it.
type Scaler struct {
	level   Level
	recent  highest
	surged  time.Time // the last sign of a surge
	panics  time.Time // the end of the panic
	changed time.Time // the last change of the count that was planned
	grown   time.Time // the last one upwards
	surplus time.Time // since when a replica less would do, without a break
	last    float64   // mean demand over the panic window
	full    int       // steps in a row of which Demand is censored

	shrunk, regrewAt time.Time // the last scale-in, and the last that was too early
	wait             time.Duration
}

// Level is the level of demand.
func (s *Scaler) Level() *Level { return &s.level }

// Step takes the observation of a step of length dt, and returns the plan from now
// on. Steps may have any length, 2 s and 10 s are usual.
func (s *Scaler) Step(now time.Time, dt time.Duration, seen *Seen, r *Rules) Plan {
	f := &seen.Service
	c := chooser{f: f, o: &Outlook{}, r: r, now: Size{f.Replicas(), f.Cores}}
	if !f.valid() || !r.valid() || !finite(seen.Demand) || dt <= 0 {
		return c.hold(knowledge.Because(knowledge.RuleReplicasInvalid))
	}
	if seen.Missing > 0 {
		s.surplus = time.Time{}
		return c.hold(knowledge.Because(knowledge.RuleReplicasMissing, float64(seen.Missing)))
	}
	o := s.outlook(now, dt, seen, r)
	c.o = &o
	if s.surging(now, dt, &o, seen, r) {
		if p, ok := c.surge(); ok {
			s.note(now, c.now, p.Size)
			return p
		}
	}
	p := s.settle(now, &c, Choose(f, &o, r))
	s.note(now, c.now, p.Size)
	return p
}

func (s *Scaler) note(now time.Time, was, is Size) {
	if was.Replicas != is.Replicas {
		s.changed = now
	}
	switch {
	case is.Replicas < was.Replicas:
		s.shrunk = now
	case is.Replicas > was.Replicas:
		if !s.shrunk.IsZero() && now.Sub(s.shrunk) <= regrowWithinScaleIn && !now.Before(s.panics) {
			s.wait = min(max(2*s.waits(now), scaleInWait), scaleInWaitMost)
			s.regrewAt = now
		}
		s.grown = now
	}
}

// waits is how long a surplus must have lasted before any replica goes.
func (s *Scaler) waits(now time.Time) time.Duration {
	if s.wait == 0 || now.Sub(s.regrewAt) > scaleInWaitReset {
		return 0
	}
	return s.wait
}

// outlook turns readings and forecast into needs.
func (s *Scaler) outlook(now time.Time, dt time.Duration, seen *Seen, r *Rules) Outlook {
	demand, f := seen.Demand, &seen.Service
	ready := float64(f.Replicas()-f.Starting) * f.Law.Useful(f.Cores)
	s.full++
	if !seen.Censored {
		s.full = 0
	}
	jumped := s.level.Observe(demand, dt)
	mean := s.level.Mean()
	o := Outlook{Expected: mean, Sigma: mean * s.level.Noise(), Upper: s.level.Upper(sigmas(r.Risk))}
	in := max(o.Upper, 0)
	if seen.Forecast.Trusted && finite(seen.Forecast.Start, seen.Forecast.Calm) {
		o.Upper = max(o.Upper, seen.Forecast.Start)
		in = max(in, seen.Forecast.Calm)
		o.Bounds = seen.Forecast.Bounds
	}
	o.Out = max(mean/(r.Target*(1+targetSlack)), o.Upper/r.Knee)
	if s.full >= censoredSteps {
		o.Out = max(o.Out, censoredStep*demand/r.Target)
		o.Upper = max(o.Upper, censoredStep*demand)
	}
	// What was just started is an answer to few readings; the next ones correct it
	// when they are averaged, or at once where they are beyond it.
	if all := float64(f.Replicas()) * f.Law.Useful(f.Cores); s.full < censoredSteps && f.Starting > 0 &&
		now.Sub(s.grown) < panicSpan && demand <= r.Knee*all {
		o.Out, o.Upper, in = min(o.Out, all), min(o.Upper, r.Knee*all), min(in, r.Knee*all)
	}
	instant := (1 + scaleInRoom) * max(o.Out, in/r.Knee)
	s.recent.add(now, instant)
	o.In = max(s.recent.max(now), o.Out)
	if n := float64(f.Replicas() - 1); instant > n*f.Law.Useful(f.Cores) {
		s.surplus = time.Time{}
	} else if s.surplus.IsZero() {
		s.surplus = now
	}
	if jumped > 0 && o.Out > ready {
		s.surged = now
	}
	return o
}

// sigmas is the distance of a reading above its level, in deviations, with a chance
// of risk: 2.33 for 1 %, 1.64 for 5 %, 0.84 for 20 %.
func sigmas(risk float64) float64 {
	return min(max(math.Sqrt2*math.Erfinv(1-2*risk), 0), sigmaMost)
}

// surging: more is coming than what serves can carry, or a panic.
func (s *Scaler) surging(now time.Time, dt time.Duration, o *Outlook, seen *Seen, r *Rules) bool {
	f := &seen.Service
	ready := float64(f.Replicas()-f.Starting) * f.Law.Useful(f.Cores)
	s.last += (seen.Demand - s.last) * min(1, dt.Seconds()/panicSpan.Seconds())
	if s.last/r.Target >= panicRatio*ready {
		s.panics = now.Add(panicFor)
	}
	if now.Before(s.panics) && o.Out > ready || s.full >= censoredSteps || o.Upper > r.Knee*ready &&
		s.last > r.Target*ready {
		s.surged = now
	}
	return s.surged.Equal(now)
}

// surge is the plan that does not wait: the present replicas grow as far as their
// hosts allow, and where the bound of demand when new ones would serve is beyond
// that, new ones start at once. False: the present capacity is enough.
func (c *chooser) surge() (Plan, bool) {
	f, r, o := c.f, c.r, c.o
	top := largest(f, r)
	ready := max(c.now.Replicas-f.Starting, 1)
	size := Size{c.now.Replicas, f.Cores}
	if g := f.Law.Useful(f.Cores); float64(ready)*g < o.Out {
		size.Cores = f.Law.coresFor(o.Out/float64(ready), f.Cores, top)
	}
	best := float64(ready) * f.Law.Useful(top)
	if o.Upper > r.Knee*best || o.Out > best {
		if r.Axis != AxisVertical {
			size.Replicas = max(size.Replicas, c.bound(o.Out/f.Law.Useful(f.Cores)))
		}
	}
	on, why := place(f, size)
	for !why.IsZero() && size.Replicas > c.now.Replicas {
		size.Replicas--
		on, why = place(f, size)
	}
	if size == c.now || !why.IsZero() {
		return Plan{}, false
	}
	p := c.hold(knowledge.Because(knowledge.RuleReplicasSurge, float64(size.Replicas), size.Cores, o.Upper, best))
	p.Size, p.On = size, on
	return p, true
}

// coresFor is the least size from c up to top that is worth that much, or top.
func (l Law) coresFor(worth, c, top float64) float64 {
	if l.Useful(top) < worth {
		for range 40 { // no more than brings anything
			if half := (c + top) / 2; l.Useful(half) >= l.Useful(top)*(1-1e-9) {
				top = half
			} else {
				break
			}
		}
		return top
	}
	for range 40 {
		if half := (c + top) / 2; l.Useful(half) >= worth {
			top = half
		} else {
			c = half
		}
	}
	return top
}

// settle delays: what grows is let through, what shrinks waits for calm, for
// replicas that start, and for its pace.
func (s *Scaler) settle(now time.Time, c *chooser, p Plan) Plan {
	less, smaller := p.Replicas < c.now.Replicas, p.Cores < c.now.Cores
	if !less && !smaller {
		return p
	}
	switch calm := now.Sub(s.surged); {
	case now.Before(s.panics):
		return c.delay(p, c.now.Replicas, knowledge.Because(knowledge.RuleReplicasPanic, s.panics.Sub(now).Seconds()))
	case !s.surged.IsZero() && calm < scaleInCalm:
		return c.delay(p, c.now.Replicas, knowledge.Because(knowledge.RuleReplicasCalm, calm.Seconds(),
			scaleInCalm.Seconds()))
	case c.f.Starting > 0 || smaller && p.Replicas > c.now.Replicas:
		return c.delay(p, c.now.Replicas, knowledge.Because(knowledge.RuleReplicasStart, float64(c.f.Starting)))
	case !less:
		return p
	}
	if p.Cores > c.now.Cores { // first larger, then fewer
		return c.delay(p, c.now.Replicas, knowledge.Because(knowledge.RuleReplicasMore, float64(c.now.Replicas), p.Cores,
			c.o.Out, c.worth(p.Size)))
	}
	since := s.surplus
	if s.changed.After(since) {
		since = s.changed
	}
	gone, many := 0, c.now.Replicas-p.Replicas
	if lasts := now.Sub(s.surplus); s.surplus.IsZero() || lasts < s.waits(now) {
		return c.delay(p, c.now.Replicas, knowledge.Because(knowledge.RuleReplicasPace, float64(many),
			max(s.waits(now)-lasts, scaleInEvery).Seconds()))
	}
	if !s.surplus.IsZero() {
		gone = min(int(now.Sub(since)/scaleInEvery), many)
	}
	if c.r.Together > 0 {
		gone = min(gone, c.r.Together)
	}
	if gone == many {
		return p
	}
	wait := scaleInEvery - now.Sub(since)%scaleInEvery
	return c.delay(p, c.now.Replicas-gone, knowledge.Because(knowledge.RuleReplicasPace, float64(many), wait.Seconds()))
}

// delay keeps of a plan what grows, and lets the count go no lower than n.
func (c *chooser) delay(p Plan, n int, why knowledge.Reason) Plan {
	proposal := p.Size
	size := Size{max(p.Replicas, n), max(p.Cores, c.now.Cores)}
	on, no := place(c.f, size)
	if !no.IsZero() { // the present ones keep their size, and that leaves less capacity
		size = Size{n, c.now.Cores}
		if on, no = place(c.f, size); !no.IsZero() {
			size, on = c.now, c.hold(why).On
		}
	}
	if size != proposal {
		p.Rejected = append(p.Rejected, Rejected{c.price(proposal), why})
	}
	p.Size, p.On = size, on
	if size == c.now || size.Replicas == c.now.Replicas && why.Rule != knowledge.RuleReplicasMore {
		p.Reason = why
	}
	return p
}

// highest is the maximum over scaleInWindow, in slots so that it is of fixed size
// whatever the step: it forgets after 5 min to 5 min 10 s.
type highest struct {
	slots [highestSlots + 1]float64
	at    int64 // the slot of the newest value, counted from the zero time
}

const highestSlots = 30

func (h *highest) slot(now time.Time) int64 {
	return now.UnixMilli() / (scaleInWindow / highestSlots).Milliseconds()
}

func (h *highest) add(now time.Time, v float64) {
	i := h.slot(now)
	h.forget(i)
	k := h.index(h.at)
	h.slots[k] = max(h.slots[k], v)
}

// forget empties the slots between the newest one and i. After a clock that went back
// it continues with the newest.
func (h *highest) forget(i int64) {
	if h.at == 0 || i-h.at > highestSlots {
		*h = highest{at: max(i, h.at)}
		return
	}
	for h.at < i {
		h.at++
		h.slots[h.index(h.at)] = 0
	}
}

func (h *highest) index(i int64) int {
	return int(((i % (highestSlots + 1)) + highestSlots + 1) % (highestSlots + 1))
}

func (h *highest) max(now time.Time) float64 {
	h.forget(max(h.slot(now), h.at))
	m := 0.0
	for _, v := range h.slots {
		m = math.Max(m, v)
	}
	return m
}
