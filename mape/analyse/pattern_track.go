package analyse

import (
	"time"
)

const (
	// lookEvery is how many new values are worth another classification: a sixty-fourth of
	// a full series.
	lookEvery = MaxPoints / 64
	// freshShare is the weight of a classification against those before it.
	freshShare = 0.15
	// leadToChange is how far another kind's share must be ahead of the label's,
	// looksToChange at how many classifications in a row.
	leadToChange  = 0.3
	looksToChange = 4
)

// Tracker keeps the newest values of one service and a label that does not flap:
// shares are smoothed over classifications, and another label must lead clearly and
// four times. The zero value is usable and has a fixed size of 4.3 KB. It is not safe
// for concurrent use.
type Tracker struct {
	cpu, memory   [MaxPoints]float32
	next, count   int // of the rings
	fresh         int // values since the last classification
	demand, held  label
	memoryFrom    int // how many of the newest memory values are of this process
	demandPattern Pattern
	memoryPattern Pattern
	looked        bool
}

// label is a choice with inertia.
type label struct {
	share [patternKinds]float64
	kind  PatternKind
	rival PatternKind
	leads int
}

// Observe takes the next evenly spaced values: demand in cores and working set in
// bytes. A negative value or NaN is a gap.
func (t *Tracker) Observe(cores, memory float64) {
	t.cpu[t.next], t.memory[t.next] = float32(cores), float32(memory)
	t.next = (t.next + 1) % MaxPoints
	t.count = min(t.count+1, MaxPoints)
	t.memoryFrom = min(t.memoryFrom+1, MaxPoints)
	t.fresh = min(t.fresh+1, MaxPoints)
}

// Restarted drops the memory values so far: a new process starts small.
func (t *Tracker) Restarted() { t.memoryFrom = 0 }

// Look brings the label up to date, at most once in eight values, and returns it: a
// leak where there is one, else the pattern of the demand. step is the distance of
// the values; period and strength are the forecaster's, or 0.
func (t *Tracker) Look(step, period time.Duration, strength float64) Pattern {
	if t.fresh >= lookEvery || !t.looked {
		t.look(step, period, strength)
	}
	if t.memoryPattern.Kind == PatternLeak {
		return t.memoryPattern
	}
	return t.demandPattern
}

// Demand and Memory are the labels as of the last Look.
func (t *Tracker) Demand() Pattern { return t.demandPattern }

// Memory is PatternLeak, PatternRamp (it grew with the load), PatternSteady or
// PatternUnknown.
func (t *Tracker) Memory() Pattern { return t.memoryPattern }

func (t *Tracker) look(step, period time.Duration, strength float64) {
	t.fresh, t.looked = 0, true
	var cpu, memory [MaxPoints]float64
	first := t.next - t.count + MaxPoints
	for i := range t.count {
		j := (first + i) % MaxPoints
		cpu[i], memory[i] = float64(t.cpu[j]), float64(t.memory[j])
	}
	s := Series{Step: step, CPU: cpu[:t.count], Period: period, Strength: strength}
	s.Memory = memory[t.count-min(t.memoryFrom, t.count) : t.count]

	var sh shape
	if sh.read(s.CPU) {
		v := sh.vote(&s)
		k := t.demand.settle(&v)
		t.demandPattern = Pattern{Kind: k, Confidence: t.demand.share[k], Period: sh.period(k, &s),
			Evidence: sh.evidence(k, &s)}
	} else {
		t.demand, t.demandPattern = label{}, short(sh.n)
	}
	var l leak
	if l.read(&s) {
		v := l.vote()
		k := t.held.settle(&v)
		t.memoryPattern = Pattern{Kind: k, Confidence: t.held.share[k], Evidence: l.evidence(k)}
	} else {
		t.held, t.memoryPattern = label{}, short(l.points)
	}
}

// settle counts a classification and returns the label.
func (l *label) settle(v *votes) PatternKind {
	if l.kind == PatternUnknown {
		l.kind, l.share = v.best(), *v
		return l.kind
	}
	for k := range l.share {
		l.share[k] += freshShare * (v[k] - l.share[k])
	}
	shares := votes(l.share)
	rival := shares.best()
	switch {
	case rival == l.kind || l.share[rival] < l.share[l.kind]+leadToChange:
		l.leads = 0
	case rival != l.rival:
		l.leads = 1
	default:
		l.leads++
	}
	l.rival = rival
	if l.leads >= looksToChange {
		l.kind, l.leads = rival, 0
	}
	return l.kind
}
