package forecast

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"pgregory.net/rapid"
)

func testConfig() Config {
	return Config{Step: time.Minute, Horizons: []int{1, 6, 40}, Levels: testLevels}
}

// drawn feeds a model with anything: values, lower bounds, gaps and nonsense.
func drawn(t *rapid.T, m *Model, label string) {
	for range rapid.IntRange(1, 200).Draw(t, label) {
		switch rapid.IntRange(0, 9).Draw(t, "kind") {
		case 0:
			m.Gap(rapid.IntRange(-2, 100).Draw(t, "gap"))
		case 1:
			m.Observe(rapid.Float64().Draw(t, "any"), false)
		case 2:
			m.Observe(rapid.Float64Range(0, 10).Draw(t, "bound"), true)
		case 3:
			m.Observe(rapid.Float64Range(0, 1e12).Draw(t, "large"), false)
		default:
			m.Observe(rapid.Float64Range(0, 10).Draw(t, "value"), false)
		}
	}
}

func answers(m *Model) []float64 {
	var out []float64
	for h := range m.horizons {
		out = append(out, m.Value(h), m.Peak(h))
		for l := range m.config.Levels {
			out = append(out, m.Upper(h, l))
		}
		s := m.Score(h)
		out = append(append(out, s.Coverage...), s.Error, s.SameAsNow, float64(s.Count))
	}
	return out
}

func TestFiniteAndOrdered(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := New(testConfig())
		drawn(t, m, "steps")
		for i, v := range answers(m) {
			if !(v >= 0) || math.IsInf(v, 0) {
				t.Fatalf("answer %d is %v", i, v)
			}
		}
		for h := range m.horizons {
			for l := 1; l < len(testLevels); l++ {
				if m.Upper(h, l) < m.Upper(h, l-1) {
					t.Fatalf("horizon %d: the bound falls from %v to %v", h, m.Upper(h, l-1), m.Upper(h, l))
				}
			}
		}
	})
}

func TestLowerBoundsNeverLower(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := New(testConfig())
		drawn(t, m, "steps")
		m.Observe(rapid.Float64Range(0, 10).Draw(t, "seen"), false)
		for range 5 {
			before := *m
			was := make([]issued, len(m.horizons))
			for h := range was {
				was[h] = before.horizons[h].now
			}
			m.Observe(rapid.Float64Range(0, 10).Draw(t, "bound"), true)
			for h := range was {
				if m.Value(h) < was[h].predictedValue || m.horizons[h].now.predictedPeak < was[h].predictedPeak ||
					m.Upper(h, 2) < was[h].upper[2] {
					t.Fatalf("horizon %d: a lower bound lowered the forecast", h)
				}
			}
		}
	})
}

func TestLowerBoundRaises(t *testing.T) {
	m := New(testConfig())
	for range 100 {
		m.Observe(1, false)
	}
	before := m.Value(0)
	for range 20 {
		m.Observe(4, true)
	}
	if m.Value(0) < before+1 {
		t.Errorf("twenty lower bounds of 4 leave the forecast at %v", m.Value(0))
	}
}

// What jumps from nothing to the greatest value that is taken comes back from the disk.
func TestRoundTripOfTheGreatest(t *testing.T) {
	m, twin := New(testConfig()), New(testConfig())
	for i := range 500 {
		m.Observe(maxValue*float64(i%7/6), false)
		if err := twin.Unmarshal(m.Marshal()); err != nil {
			t.Fatal(i, err)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, twin := New(testConfig()), New(testConfig())
		drawn(t, m, "before")
		if err := twin.Unmarshal(m.Marshal()); err != nil {
			t.Fatal(err)
		}
		for i := range 60 {
			a, b := answers(m), answers(twin)
			for j := range a {
				if a[j] != b[j] {
					t.Fatalf("after %d steps answer %d is %v, was %v", i, j, b[j], a[j])
				}
			}
			v := rapid.Float64Range(0, 10).Draw(t, "value")
			m.Observe(v, false)
			twin.Observe(v, false)
		}
	})
}

func TestUnmarshalRefuses(t *testing.T) {
	m := New(testConfig())
	for _, v := range noisy(500, 1) {
		m.Observe(v, false)
	}
	good := m.Marshal()
	other := testConfig()
	other.Horizons = []int{1, 6}
	for name, c := range map[string]struct {
		m *Model
		b []byte
	}{
		"nothing": {New(testConfig()), nil},
		"cut":     {New(testConfig()), good[:len(good)-9]},
		"flipped": {New(testConfig()), append(append([]byte(nil), good[:99]...),
			append([]byte{good[99] ^ 1}, good[100:]...)...)},
		"other horizon": {New(other), good},
	} {
		if err := c.m.Unmarshal(c.b); !errors.Is(err, knowledge.ErrEncoding) {
			t.Errorf("%s: %v", name, err)
		}
		if c.m.Ready() {
			t.Errorf("%s: something was learned", name)
		}
	}
}

// FuzzUnmarshal: bytes with a right checksum are refused, or give a model that works.
func FuzzUnmarshal(f *testing.F) {
	m := New(testConfig())
	f.Add(m.Marshal())
	for _, v := range noisy(300, 2) {
		m.Observe(v, false)
	}
	f.Add(m.Marshal())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= crc32.Size {
			b = append([]byte(nil), b[:len(b)-crc32.Size]...)
			b = binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
		}
		m := New(testConfig())
		if err := m.Unmarshal(b); err != nil {
			return
		}
		for _, v := range noisy(100, 3) {
			m.Observe(v, false)
		}
		for i, v := range answers(m) {
			if !(v >= 0) || math.IsInf(v, 0) {
				t.Fatalf("answer %d is %v", i, v)
			}
		}
	})
}

func TestNoAllocation(t *testing.T) {
	m := New(testConfig())
	values := noisy(2000, 4)
	for _, v := range values {
		m.Observe(v, false)
	}
	m.fineNext, m.coarseNext = math.MaxInt, math.MaxInt
	i := 0
	if n := testing.AllocsPerRun(1000, func() { m.Observe(values[i%len(values)], false); i++ }); n != 0 {
		t.Errorf("%v allocations a value", n)
	}
}

func TestPeriodIsFound(t *testing.T) {
	c := chance(1)
	for _, period := range []int{24, 100, 288} {
		m := New(Config{Step: 5 * time.Minute, Horizons: []int{1}, Levels: testLevels})
		for i := range 2000 {
			m.Observe(3+math.Sin(float64(i)*2*math.Pi/float64(period))+c.unit(), false)
		}
		if p, ok := m.Period(); !ok || math.Abs(float64(p.Steps-period)) > 0.04*float64(period) {
			t.Errorf("a period of %d is found as %+v %v", period, p, ok)
		}
	}
}

// TestNoPeriodInNoise: of 100 series of noise and 100 random walks, few have one.
func TestNoPeriodInNoise(t *testing.T) {
	found := [2]int{}
	for seed := range 100 {
		c := chance(seed)
		noise, walk := make([]float64, 512), make([]float64, 512)
		for i := range noise {
			noise[i] = c.unit()
			if i > 0 {
				walk[i] = walk[i-1] + noise[i] - 0.5
			}
		}
		for i, v := range [][]float64{noise, walk} {
			if findCycle(v, 0).bins > 0 {
				found[i]++
			}
		}
	}
	t.Logf("periods in 100 noises: %d, in 100 random walks: %d", found[0], found[1])
	if found[0] > 2 {
		t.Errorf("%d of 100 noises have a period", found[0])
	}
}

func TestConfigIsChecked(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no step":        func(c *Config) { c.Step = 0 },
		"no horizon":     func(c *Config) { c.Horizons = nil },
		"unsorted":       func(c *Config) { c.Horizons = []int{6, 1} },
		"far":            func(c *Config) { c.Horizons = []int{maxHorizon + 1} },
		"level of 1":     func(c *Config) { c.Levels = []float64{1} },
		"level not real": func(c *Config) { c.Levels = []float64{math.NaN()} },
	} {
		c := testConfig()
		change(&c)
		if c.Validate() == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
