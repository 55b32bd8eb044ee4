package mape

import (
	"bufio"
	"bytes"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/analyse"
	"github.com/effiscale/effiscale/mape/simulate"
)

// replayed is how a service fared: slack at a shortage of 0.01 % and 0.1 %, the whole
// allocation scaled to it, the share of demand unserved without scaling, and writes of
// its quota.
type replayed struct {
	slack  [2]float64
	short  float64
	writes int
}

// replay plays a trace of cores, each value for ten seconds and in bursts of the first
// half of each second, through the loop: a quarter of the time under a fixed limit of
// twice the mean, then acted upon. Without steering, no lesson is ever learned.
func replay(t *testing.T, trace []float64, length time.Duration, steers bool) (out replayed) {
	mean := 0.0
	for _, v := range trace {
		mean += v / float64(len(trace))
	}
	h := newHost(t, options{cpus: 64, memory: 64 * gib, policy: func(p *knowledge.Policy) {
		p.Mode,
			p.CPUPercentile = knowledge.ModeObserve, 0
	}})
	b := h.run("web", knowledge.Limits{CPU: knowledge.FromCores(2 * mean), Memory: 256 * mib, MemorySwap: 512 * mib}, nil)
	series := &simulate.Series{}
	served, held, before := 0.0, time.Duration(0), 0
	n := int(length / tickEvery)
	for i := range n {
		h.mu.Lock()
		b.advance(h.now)
		h.mu.Unlock()
		b.demand = 0
		if i%10 < 5 {
			b.demand = 2 * trace[i/100%len(trace)]
		}
		h.tick()
		if f := h.container(b).service.Models; f != nil && !steers {
			f.Adaptive = analyse.Adaptive{}
		}
		if i == n/4 {
			h.container(b).Policy.Mode = knowledge.ModeAuto
			held, before = b.s.ThrottledTime, h.writes
		}
		if i > n/4 {
			series.Demand, series.Allocated = append(series.Demand, b.demand), append(series.Allocated, b.kernel.CPU.Cores())
			served += b.demand * tickEvery.Seconds()
		}
	}
	if f := h.container(b).service.Models; f.Lesson.Steers != steers {
		t.Fatalf("steers: %v, %+v", steers, f.Lesson)
	}
	front := simulate.NewFrontier(series)
	out.slack = [2]float64{front.Solve(0.0001).Slack, front.Solve(0.001).Slack}
	out.short, out.writes = (b.s.ThrottledTime-held).Seconds()/served, h.writes-before
	h.end()
	return out
}

// Steering pays: at equal shortage it takes less slack than without in the mean, and
// hardly more on any, of a load that is made up and traces that lie beside the checkout.
func TestSteeringCostsNothing(t *testing.T) {
	traces := map[string][]float64{"made up": nil}
	for i := range 2880 {
		traces["made up"] = append(traces["made up"], 1+0.3*math.Sin(float64(i)/40)+0.1*math.Sin(float64(i*i)))
	}
	for _, name := range []string{"nab-ec2-cpu-ac20cd", "nab-asg-cpu", "nasa-http"} {
		b, err := os.ReadFile(filepath.Join("..", "..", "shared", "traces", name+".csv"))
		if err != nil {
			t.Log("no traces beside the checkout: those are left out")
			break
		}
		traces[name] = values(b)
	}
	more := 0.0 // logarithms of the ratios
	for name, trace := range traces {
		without, with := replay(t, trace, 8*time.Hour, false), replay(t, trace, 8*time.Hour, true)
		t.Logf("%s: slack at 0.01 %% and 0.1 %% unserved %.1f %% and %.1f %%, without %.1f %% and %.1f %%; "+
			"unserved %.4f %%, without %.4f %%; %d writes, without %d", name,
			100*with.slack[0], 100*with.slack[1], 100*without.slack[0], 100*without.slack[1], 100*with.short, 100*without.short,
			with.writes, without.writes)
		for i := range with.slack {
			more += math.Log(with.slack[i] / without.slack[i])
			if with.slack[i] > 1.1*without.slack[i] {
				t.Errorf("%s: slack %.3f, without steering %.3f", name, with.slack[i], without.slack[i])
			}
		}
		if with.writes > without.writes*3/2 {
			t.Errorf("%s: %d writes, without steering %d", name, with.writes, without.writes)
		}
	}
	if more > 0 {
		t.Errorf("in the mean, steering takes %.1f %% more slack", 100*(math.Exp(more/float64(2*len(traces)))-1))
	}
}

// values are those of a trace, so that one in a hundred is above two cores.
func values(b []byte) (out []float64) {
	for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
		_, text, _ := strings.Cut(lines.Text(), ",")
		if v, err := strconv.ParseFloat(strings.TrimSpace(text), 64); err == nil {
			out = append(out, max(v, 0))
		}
	}
	top := slices.Sorted(slices.Values(out))[len(out)*99/100]
	for i := range out {
		out[i] *= 2 / top
	}
	return out
}
