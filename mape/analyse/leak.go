package analyse

import (
	"math"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

const (
	leakBlocks = 32
	// leakWatch is the least span of a series that can show a leak: a process that
	// starts fills its caches and pools for minutes.
	leakWatch = 30 * time.Minute
	// leakViews are the ways in which memory may follow load.
	leakViews = 4
)

// leak is memory and load in blocks: the lowest working set of each, which is what a
// garbage collector leaves, and the mean load.
//
// Memory leaks when
//   - the lowest points only rise (Kendall's τ: Mann 1945), by a part of it that
//     matters, and have not begun to level off as a filling cache does;
//   - and they still rise in time when the load is held equal (a regression on load
//     and time together), whether memory follows the load at once, after a while,
//     after long, or keeps what its highest load has cost.
//
// Where load and time rise so much together that they cannot be told apart, it is no
// leak. The kinds are PatternLeak, PatternRamp (it grows, and load may explain it),
// PatternSteady (it does not, or no longer) and PatternUnknown.
type leak struct {
	points, n    int
	span         float64 // seconds
	memory, load [leakBlocks * 2]float64
	work         [leakBlocks * leakBlocks * 2]float64

	rise     float64 // bytes over the span, by the median of slopes (Theil 1950, Sen 1968)
	unspoken float64 // share of the rise that load does not explain
}

func (l *leak) read(s *Series) bool {
	n := min(len(s.Memory), MaxPoints)
	memory := s.Memory[len(s.Memory)-n:]
	cpu := s.CPU[max(0, len(s.CPU)-n):]
	l.points = n
	if n < MinPoints || time.Duration(n)*s.Step < leakWatch {
		return false
	}
	per := n / leakBlocks
	l.n = n / per
	l.span = float64(l.n*per) * s.Step.Seconds()
	skip := n - l.n*per
	lag := n - len(cpu) // the load may be known for a part of the time only
	for b := range l.n {
		low, sum, seen, loads := math.Inf(1), 0.0, 0, 0
		for i := skip + b*per; i < skip+(b+1)*per; i++ {
			if usable(memory[i]) {
				low = min(low, memory[i])
				seen++
			}
			if j := i - lag; j >= 0 && usable(cpu[j]) {
				sum += min(cpu[j], math.MaxFloat32)
				loads++
			}
		}
		if seen == 0 {
			l.points = 0
			return false
		}
		l.memory[b] = min(low, float64(knowledge.MaxBytes))
		switch {
		case loads > 0:
			l.load[b] = sum / float64(loads)
		case b > 0:
			l.load[b] = l.load[b-1]
		}
	}
	return true
}

func (l *leak) vote() votes {
	m := l.memory[:l.n]
	tau, slope := l.trend(m)
	l.rise = slope * float64(l.n-1)
	w := append(l.work[:0], m...)
	level := median(w)
	grows := shade(tau, 0.6, 0.85) *
		shade(l.rise/max(level, 1), 0.04, 0.1) *
		shade(l.rise, float64(4*knowledge.MiB), float64(12*knowledge.MiB))
	if grows == 0 {
		return votes{PatternSteady: 1}
	}
	_, late := l.trend(m[l.n*2/3:])
	goesOn := shade(late/slope, 0.3, 0.6)
	alone := l.alone()
	return votes{
		PatternLeak:   grows * goesOn * alone,
		PatternRamp:   grows * goesOn * (1 - alone),
		PatternSteady: 1 - grows*goesOn,
	}
}

// trend is Kendall's τ of y against time and the median of its slopes, a block.
func (l *leak) trend(y []float64) (tau, slope float64) {
	w := l.work[:0]
	up := 0
	for i := range y {
		for j := i + 1; j < len(y); j++ {
			w = append(w, (y[j]-y[i])/float64(j-i))
			switch {
			case y[j] > y[i]:
				up++
			case y[j] < y[i]:
				up--
			}
		}
	}
	if len(w) == 0 {
		return 0, 0
	}
	return float64(up) / float64(len(w)), median(w)
}

// alone is how surely memory rises with the load held equal: the least over the
// ways in which it may follow the load.
func (l *leak) alone() float64 {
	sure := 1.0
	l.unspoken = 1
	var view [leakBlocks * 2]float64
	for kind := range leakViews {
		for i, v := range l.load[:l.n] {
			before := v
			if i > 0 {
				before = view[i-1]
			}
			switch kind {
			case 0:
				view[i] = v
			case 1:
				view[i] = before + (v-before)/3
			case 2:
				view[i] = before + (v-before)/10
			default:
				view[i] = max(before, v)
			}
		}
		share, t := l.partial(view[:l.n])
		sure = min(sure, shade(share, 0.3, 0.6)*shade(t, 3, 6))
		l.unspoken = min(l.unspoken, min(max(share, 0), 1))
	}
	return sure
}

// partial regresses memory on load and time together. It returns the share of the
// rise that is time's own, and how many of its standard errors that is. Residuals
// that follow each other widen the error (effective sample size).
func (l *leak) partial(load []float64) (share, t float64) {
	m := l.memory[:l.n]
	n := float64(l.n)
	meanM, slope := line(m)
	meanL, _ := meanStd(load)
	middle := (n - 1) / 2
	var ll, lt, tt, lm, tm float64
	for i, v := range load {
		dl, dt, dm := v-meanL, float64(i)-middle, m[i]-meanM
		ll, lt, tt, lm, tm = ll+dl*dl, lt+dl*dt, tt+dt*dt, lm+dl*dm, tm+dt*dm
	}
	own := tt // of time's variation, what is not also the load's
	rate, byLoad := tm/tt, 0.0
	if ll > 1e-12*max(meanL*meanL*n, 1e-12) {
		own = tt - lt*lt/ll
		if own < 1e-6*tt {
			return 0, 0
		}
		rate = (tm - lt*lm/ll) / own
		byLoad = (lm - lt*rate) / ll
	}
	if byLoad < 0 { // more load never needs less memory
		rate, byLoad, own = tm/tt, 0, tt
	}
	var sse, follow, last float64
	for i, v := range load {
		r := m[i] - meanM - rate*(float64(i)-middle) - byLoad*(v-meanL)
		sse += r * r
		if i > 0 {
			follow += r * last
		}
		last = r
	}
	rho := 0.0
	if sse > 0 {
		rho = min(max(follow/sse, 0), 0.9)
	}
	// The least noise is a page: a series without any would have no error.
	noise := sse/(n-3) + float64(4*knowledge.KiB)*float64(4*knowledge.KiB)
	err := math.Sqrt(noise / own * (1 + rho) / (1 - rho))
	if slope <= 0 {
		return 0, 0
	}
	return rate / slope, rate / err
}

func (l *leak) evidence(k PatternKind) knowledge.Reason {
	switch k {
	case PatternLeak:
		return knowledge.Because(knowledge.RulePatternLeak, l.rise/l.span, l.rise, l.span, l.unspoken)
	case PatternRamp:
		return knowledge.Because(knowledge.RuleGrowsWithLoad, l.rise, l.span, 1-l.unspoken)
	}
	return knowledge.Because(knowledge.RuleMemoryLevel, l.memory[l.n-1], max(l.rise, 0), l.span)
}
