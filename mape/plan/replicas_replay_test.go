package plan

import (
	"bufio"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// bed is a small replay for developing the timing; the one that users have is
// mape/simulate.
type bed struct {
	step, start time.Duration
	least, most int
	target      float64
	cores       float64
	risk        float64
	censor      bool // no work signal: a full fleet shows its use only
}

func usualBed() bed {
	return bed{step: 2 * time.Second, start: 10 * time.Second, least: 1, most: 20, target: 0.7, cores: 1, risk: 0.01}
}

// figures are what a replay comes to.
type figures struct {
	changes                 int
	overloaded, hours, wait float64 // seconds, replica-hours, seconds from the surge until it was covered
}

func (f figures) String() string {
	return fmt.Sprintf("%3d changes, %4.0f s overloaded, %.1f replica-hours, surge covered after %.0f s", f.changes,
		f.overloaded, f.hours, f.wait)
}

type decider func(at time.Duration, demand float64, short bool, ready, starting int) int

// replay asks once a step: the reading of an instant decides at that instant, and
// a new replica serves start later, from the next step at the earliest.
func (b bed) replay(demand []float64, surge time.Duration, decide decider) figures {
	type pending struct {
		at time.Duration
		n  int
	}
	var out figures
	ready, starting := b.least, 0
	var queue []pending
	covered := false
	for i, d := range demand {
		at := time.Duration(i) * b.step
		for len(queue) > 0 && queue[0].at <= at {
			ready, starting = ready+queue[0].n, starting-queue[0].n
			queue = queue[1:]
		}
		short := d > float64(ready)*b.cores
		if short && i > 0 {
			out.overloaded += b.step.Seconds()
		}
		if at >= surge && !covered && surge > 0 {
			if !short {
				covered, out.wait = true, (at - surge).Seconds()
			}
		}
		out.hours += float64(ready+starting) * b.step.Hours()
		show := d
		if short && b.censor {
			show = float64(ready) * b.cores
		}
		n := min(max(decide(at, show, short, ready, starting), b.least), b.most)
		switch more := n - ready - starting; {
		case more > 0:
			queue = append(queue, pending{at + b.start, more})
			starting += more
			out.changes++
		case more < 0:
			out.changes++
			for ; more < 0 && len(queue) > 0; more++ {
				last := &queue[len(queue)-1]
				if last.n--; last.n == 0 {
					queue = queue[:len(queue)-1]
				}
				starting--
			}
			ready += more
		}
	}
	if surge > 0 && !covered {
		out.wait = math.Inf(1)
	}
	return out
}

// scaler decides with the shipped code, without a forecast.
func (b bed) scaler(together int) decider {
	s := &Scaler{}
	r := &Rules{Axis: AxisHorizontal, Least: b.least, Most: b.most, Target: b.target, Knee: 1, Risk: b.risk,
		Start: b.start, Together: together}
	t0 := time.Unix(1e9, 0)
	return func(at time.Duration, demand float64, short bool, ready, starting int) int {
		n := ready + starting
		f := ServiceState{Cores: b.cores, Starting: starting,
			Hosts: []HostState{{Name: "a", Cores: 1e6, Replicas: n, Ours: n}}}
		return s.Step(t0.Add(at), b.step, &Seen{Demand: demand, Censored: short && b.censor, Service: f}, r).Replicas
	}
}

// hpa is Kubernetes' Horizontal Pod Autoscaler with its defaults: every 15 s on
// the mean use of the last 15 s, 10 % tolerance, 300 s scale-down window, at most
// twice as many or 4 more in 15 s, what starts counts as idle while it grows.
func (b bed) hpa() decider {
	type mark struct {
		at time.Duration
		n  int
	}
	var use []float64
	var past []mark
	next := time.Duration(0)
	span := max(int(15*time.Second/b.step), 1)
	return func(at time.Duration, demand float64, _ bool, ready, starting int) int {
		use = append(use, demand)
		use = use[max(0, len(use)-span):]
		n := ready + starting
		if at < next {
			return n
		}
		next = at + 15*time.Second
		base := max(ready, 1)
		ratio := mean(use) / (float64(base) * b.cores * b.target)
		if starting > 0 && ratio > 1 {
			base = n
			ratio = max(mean(use)/(float64(n)*b.cores*b.target), 1)
		}
		want := n
		if math.Abs(ratio-1) > 0.1 {
			want = int(math.Ceil(ratio*float64(base) - 1e-9))
		}
		want = min(max(want, b.least), b.most)
		past = append(past, mark{at, want})
		for past[0].at < at-300*time.Second {
			past = past[1:]
		}
		high := 0
		for _, m := range past {
			high = max(high, m.n)
		}
		if want > n {
			return min(want, max(2*n, n+4))
		}
		return min(n, high)
	}
}

// relative of the kind of synthetic-48h-cpu: a daily sine under noise, a spike and
// a plateau. It returns the demand and the start of the spike.
func relative(seed uint64, b bed) ([]float64, time.Duration) {
	g := rand.New(rand.NewPCG(seed, 7))
	noise := 0.05 + 0.25*g.Float64()
	mid, swing := 0.5+2*g.Float64(), 0.3+0.4*g.Float64()
	height, spike := 2.5+4*g.Float64(), time.Duration((0.5+4*g.Float64())*float64(time.Hour)).Truncate(b.step)
	plateau, from := 1.5+g.Float64(), 6+6*g.Float64()
	out := make([]float64, int(48*time.Hour/b.step))
	for i := range out {
		at := time.Duration(i) * b.step
		d := mid * (1 + swing*math.Sin(2*math.Pi*at.Hours()/24))
		if at >= spike && at < spike+5*time.Minute {
			d *= height
		}
		if h := at.Hours(); h >= from && h < from+6 {
			d *= plateau
		}
		out[i] = max(0, d*(1+noise*g.NormFloat64()))
	}
	return out, spike
}

// shared reads a trace beside the checkout; nil when it is not there.
func shared(t testing.TB, name string) []float64 {
	file, err := os.Open("../../../shared/traces/" + name + ".csv")
	if err != nil {
		return nil
	}
	defer file.Close()
	var out []float64
	for in := bufio.NewScanner(file); in.Scan(); {
		_, text, _ := strings.Cut(in.Text(), ",")
		if v, err := strconv.ParseFloat(text, 64); err == nil {
			out = append(out, v)
		}
	}
	if len(out) == 0 {
		t.Fatalf("%s is empty", name)
	}
	return out
}

// TestHorizontalFigures: all four at once on the trace that peers were measured
// on, or, without it, on one of its kind.
func TestHorizontalFigures(t *testing.T) {
	b := usualBed()
	demand := shared(t, "synthetic-48h-cpu")
	if demand == nil {
		t.Log("no shared traces: TestHorizontalRelatives stands alone")
		return
	}
	got := b.replay(demand, time.Hour, b.scaler(0))
	t.Log("effiscale:            ", got)
	t.Log("one replica a minute: ", b.replay(demand, time.Hour, b.scaler(1)))
	c := b
	c.censor = true
	t.Log("without a work signal:", c.replay(demand, time.Hour, c.scaler(0)))
	t.Log("hpa:                  ", b.replay(demand, time.Hour, b.hpa()))
	if got.changes > 11 || got.overloaded > 32 || got.wait > 14 || got.hours > 87 {
		t.Error("wanted at most 11 changes, 32 s overloaded, 14 s to cover the spike, 87 replica-hours")
	}
}

// TestHorizontalRelatives: ahead of HPA in the median on all four, on traces that
// nobody has tuned to.
func TestHorizontalRelatives(t *testing.T) {
	for _, step := range []time.Duration{2 * time.Second, 5 * time.Second, 10 * time.Second} {
		b := usualBed()
		b.step = step
		b.risk *= (2 * time.Second).Seconds() / step.Seconds() // a longer reading hurts for longer
		var changes, overloaded, hours, wait []float64
		for seed := range uint64(15) {
			demand, spike := relative(seed, b)
			ours, hpa := b.replay(demand, spike, b.scaler(0)), b.replay(demand, spike, b.hpa())
			if testing.Verbose() {
				t.Logf("%v %2d ours %v", step, seed, ours)
				t.Logf("%v %2d hpa  %v", step, seed, hpa)
			}
			changes = append(changes, float64(ours.changes-hpa.changes))
			overloaded = append(overloaded, ours.overloaded-hpa.overloaded)
			hours = append(hours, ours.hours/hpa.hours)
			wait = append(wait, ours.wait-hpa.wait)
		}
		t.Logf("step %v: median against HPA: %+.0f changes, %+.0f s overloaded, %.3f of its replica-hours, %+.0f s to cover the surge", step, median(changes), median(overloaded), median(hours), median(wait))
		if median(changes) > 0 || median(overloaded) > 0 || median(hours) > 1 || median(wait) > 0 {
			t.Errorf("step %v: behind HPA", step)
		}
	}
}

func median(v []float64) float64 {
	v = slices.Clone(v)
	slices.Sort(v)
	return v[len(v)/2]
}

// TestOtherTraces shows what comes out on the other traces, with replicas of a
// tenth of the peak. Losses are printed, too: on series of 5 min a reading is all
// that is known of a level, and both are late.
func TestOtherTraces(t *testing.T) {
	for name, step := range map[string]time.Duration{
		"nab-asg-cpu": 300 * time.Second, "nab-elb-requests": 300 * time.Second, "nab-tweets-aapl": 300 * time.Second,
		"nasa-http": time.Minute, "worldcup98-week-jun24": time.Minute, "azure-llm-code-1s": time.Second,
		"mooncake-chat-3s": 3 * time.Second,
	} {
		demand := shared(t, name)
		if demand == nil {
			t.Log("no shared traces")
			return
		}
		b := usualBed()
		b.step, b.cores = step, slices.Max(demand)/10
		ours, hpa := b.replay(demand, 0, b.scaler(0)), b.replay(demand, 0, b.hpa())
		t.Logf("%-22s ours %v", name, ours)
		t.Logf("%-22s hpa  %v", name, hpa)
		if ours.overloaded > 1.2*hpa.overloaded+step.Seconds() && ours.hours > hpa.hours {
			t.Errorf("%s: dearer and worse than HPA", name)
		}
	}
}

// A level that swings over the edge of a replica costs a few changes, not one each
// time: whoever took a replica too early waits longer before the next one.
func TestScaleInLearnsPatience(t *testing.T) {
	b := usualBed()
	demand := make([]float64, int(6*time.Hour/b.step))
	for i := range demand {
		at := time.Duration(i) * b.step
		demand[i] = 0.70 + 0.09*math.Sin(2*math.Pi*at.Minutes()/25)
	}
	got := b.replay(demand, 0, b.scaler(0))
	t.Log(got)
	if got.changes > 9 { // 14 periods: 28 changes without patience
		t.Errorf("%v, want at most 9 changes", got)
	}
}
