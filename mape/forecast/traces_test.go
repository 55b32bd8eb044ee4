package forecast

import (
	"bufio"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// series is an evenly spaced signal.
type series struct {
	name   string
	step   time.Duration
	values []float64
}

// aggregate: traces of steps below 10 s become means of 10 s where they are long;
// synthetic-48h of 2 s is what the daemon would forecast from.
func aggregate(s series, k int) series {
	out := series{s.name, s.step * time.Duration(k), nil}
	for i := 0; i+k <= len(s.values); i += k {
		sum := 0.0
		for _, v := range s.values[i : i+k] {
			sum += v
		}
		out.values = append(out.values, sum/float64(k))
	}
	return out
}

// traces reads what lies beside the checkout; none is not a failure.
func traces(t testing.TB) []series {
	t.Helper()
	files, err := filepath.Glob("../../../shared/traces/*.csv")
	if err != nil {
		t.Fatal(err)
	}
	var all []series
	for _, f := range files {
		s := readTrace(t, f)
		if s.name == "synthetic-48h-cpu" {
			s = aggregate(s, 5)
		}
		all = append(all, s)
	}
	return all
}

func readTrace(t testing.TB, file string) series {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := series{name: strings.TrimSuffix(filepath.Base(file), ".csv")}
	var seconds []float64
	for lines := bufio.NewScanner(f); lines.Scan(); {
		a, b, _ := strings.Cut(lines.Text(), ",")
		x, err1 := strconv.ParseFloat(a, 64)
		y, err2 := strconv.ParseFloat(b, 64)
		if err1 == nil && err2 == nil {
			seconds, s.values = append(seconds, x), append(s.values, y)
		}
	}
	s.step = time.Duration(math.Round((seconds[1] - seconds[0]) * 1e9))
	return s
}

var (
	testLevels   = []float64{0.8, 0.95, 0.99}
	testHorizons = []int{1, 6}
)

// outcome is how a model did on one series at one horizon.
type outcome struct {
	coverage   []float64
	wape, same float64
	slack      []float64 // mean of upper - peak over mean of the signal
}

// replay scores from the given share of the series on.
func replay(s series, horizons []int, from float64) (*Model, []outcome) {
	m := New(Config{Step: s.step, Horizons: horizons, Levels: testLevels})
	out := make([]outcome, len(horizons))
	total := make([]float64, len(horizons))
	count := make([]int, len(horizons))
	for i := range out {
		out[i].coverage, out[i].slack = make([]float64, len(testLevels)), make([]float64, len(testLevels))
	}
	start := int(from * float64(len(s.values)))
	for i, v := range s.values {
		m.Observe(v, false)
		if i < start {
			continue
		}
		for h, steps := range horizons {
			if i+steps >= len(s.values) {
				continue
			}
			truth := s.values[i+steps]
			out[h].wape += math.Abs(m.Value(h) - truth)
			out[h].same += math.Abs(v - truth)
			total[h] += truth
			count[h]++
			peak := slices.Max(s.values[i+1 : i+steps+1])
			for l := range testLevels {
				if peak <= m.Upper(h, l) {
					out[h].coverage[l]++
				}
				out[h].slack[l] += m.Upper(h, l) - peak
			}
		}
	}
	for h := range out {
		out[h].wape /= total[h]
		out[h].same /= total[h]
		for l := range testLevels {
			out[h].coverage[l] /= float64(count[h])
			out[h].slack[l] /= total[h]
		}
	}
	return m, out
}

// TestTraces holds the forecaster to its figures, from a quarter of each trace on,
// which is the warm-up: coverage within 2 points at each level and horizon, errors at
// most 2 % above those of "same as now", and 25 % below in the median error. The gain
// in the median series (paired) is printed and smaller.
func TestTraces(t *testing.T) {
	all := traces(t)
	if len(all) == 0 {
		t.Log("no traces beside the checkout: TestKinds has the generated ones")
		return
	}
	errors, same, gains := scores(t, all)
	for h, steps := range testHorizons {
		gain := 1 - median(errors[h])/median(same[h])
		t.Logf("%d steps: median WAPE %.4f, same as now %.4f: %.0f %% less; paired gain of the median series %.0f %%",
			steps, median(errors[h]), median(same[h]), 100*gain, 100*median(gains[h]))
		if gain < 0.25 {
			t.Errorf("%d steps: the median error is only %.1f %% under that of the last value", steps, 100*gain)
		}
	}
}

// TestKinds holds it to coverage and "never worse" on generated series.
func TestKinds(t *testing.T) { scores(t, kinds()) }

func scores(t *testing.T, all []series) (errors, same, gains [2][]float64) {
	for _, s := range all {
		m, out := replay(s, testHorizons, 0.25)
		p, _ := m.Period()
		for h, o := range out {
			t.Logf("%-26s %d steps: WAPE %.4f, same as now %.4f (%+.1f %%), coverage %.3f, slack %.3f, best %s, period %v",
				s.name, testHorizons[h], o.wape, o.same, 100*(o.wape/o.same-1), o.coverage, o.slack, m.Score(h).Best, p.Length)
			errors[h], same[h] = append(errors[h], o.wape), append(same[h], o.same)
			gains[h] = append(gains[h], 1-o.wape/o.same)
			if o.wape > 1.02*o.same {
				t.Errorf("%s: at %d steps %.4f is worse than the last value's %.4f", s.name, testHorizons[h], o.wape, o.same)
			}
			for l, level := range testLevels {
				if math.Abs(o.coverage[l]-level) > 0.02 {
					t.Errorf("%s: at %d steps a level of %v covers %.3f", s.name, testHorizons[h], level, o.coverage[l])
				}
			}
		}
	}
	return errors, same, gains
}

// kinds are generated series of 6000 steps.
func kinds() []series {
	shapes := []struct {
		name string
		at   func(i int, c *chance) float64
	}{
		{"noise", func(_ int, c *chance) float64 { return 1 + c.unit() }},
		{"sine", func(i int, c *chance) float64 { return 3 + 2*math.Sin(float64(i)*2*math.Pi/288) + 0.3*c.unit() }},
		{"ramp", func(i int, c *chance) float64 { return 1 + 0.01*float64(i) + 0.2*c.unit() }},
		{"steps", func(i int, c *chance) float64 { return 1 + float64(i/700%3) + 0.2*c.unit() }},
		{"bursts", func(_ int, c *chance) float64 { return 0.2 + math.Pow(c.unit(), 8)*20 }},
		{"swelling noise", func(i int, c *chance) float64 { return 5 + c.unit()*(1+float64(i)/600) }},
	}
	var all []series
	for n, shape := range shapes {
		c := chance(n + 1)
		s := series{name: shape.name, step: 5 * time.Minute}
		for i := range 6000 {
			s.values = append(s.values, shape.at(i, &c))
		}
		all = append(all, s)
	}
	return all
}

// unit is a number from 0 to 1.
func (c *chance) unit() float64 { return float64(c.next()>>11) / (1 << 53) }

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	n := len(v)
	return (v[(n-1)/2] + v[n/2]) / 2
}
