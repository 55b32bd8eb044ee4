package forecast

import (
	"bufio"
	"fmt"
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

func TestTable(t *testing.T) {
	var wapes, sames [2][]float64
	var gains [2][]float64
	for _, s := range traces(t) {
		m, out := replay(s, testHorizons, 0.25)
		p, ok := m.Period()
		line := fmt.Sprintf("%-28s", s.name)
		for h, o := range out {
			line += fmt.Sprintf(" | %.4f %.4f %+.1f%% cov %.3f slack %.3f", o.wape, o.same, 100*(o.wape/o.same-1), o.coverage, o.slack)
			wapes[h], sames[h] = append(wapes[h], o.wape), append(sames[h], o.same)
			gains[h] = append(gains[h], 1-o.wape/o.same)
		}
		t.Log(line, m.Score(1).Best, p.Length, ok)
	}
	for h := range testHorizons {
		t.Logf("h=%d median %.4f, same %.4f: %.1f%% paired gain %.3f", testHorizons[h], median(wapes[h]), median(sames[h]), 100*(1-median(wapes[h])/median(sames[h])), median(gains[h]))
	}
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	n := len(v)
	return (v[(n-1)/2] + v[n/2]) / 2
}
