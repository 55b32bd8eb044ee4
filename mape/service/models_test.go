package service

import (
	"bytes"
	"math"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/plan"
)

var begin = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// Steps are counted by the clock: a short one waits, a long one is a gap, and a
// clock that is set makes neither.
func TestStepsOfModels(t *testing.T) {
	f := newModels(begin, 10*time.Second)
	at := begin
	step := func(d time.Duration) bool {
		at = at.Add(d)
		return f.observe(at, Demand{Seen: true, Cores: 1})
	}
	for i, c := range []struct {
		pass time.Duration
		told bool
		held int
	}{
		{10 * time.Second, true, 1}, {9500 * time.Millisecond, true, 2}, {5 * time.Second, false, 2},
		{5500 * time.Millisecond, true, 3},
		{60 * time.Second, true, 9}, {-time.Hour, true, 10}, {10 * time.Second, true, 11}, {30 * 24 * time.Hour, true, 12},
		{10 * time.Minute, true, 12}, // 60 steps: two of the coarse one are complete, twelve more began
	} {
		if told := step(c.pass); told != c.told || f.coarseSteps != c.held {
			t.Errorf("%d: told %v, %d steps held, want %v and %d", i, told, f.coarseSteps, c.told, c.held)
		}
	}
	for _, s := range []time.Duration{time.Second, 10 * time.Second, 7 * time.Second, 10 * time.Minute} {
		f := newModels(begin, s)
		fine, coarse := fineHorizons(s), coarseHorizons(s)
		if len(fine) == 0 || len(coarse) == 0 || fine[0]%s != 0 || coarse[len(coarse)-1] < time.Hour || f.step != s {
			t.Errorf("steps of %s: %v, %v", s, fine, coarse)
		}
	}
}

// The highest of five minutes is kept for the coarse forecaster.
func TestTheCoarseStepKeepsTheHighest(t *testing.T) {
	m := newModels(begin, 10*time.Second)
	for i := range 12 {
		d := Demand{Seen: true, Cores: 0.3}
		if i < 6 {
			d = Demand{Seen: true, Cores: 0.8, Censored: true}
		}
		m.observe(begin.Add(time.Duration(i+1)*10*time.Second), d)
	}
	if math.Abs(m.coarseDemand.Cores-0.8) > 0.05 || !m.coarseDemand.Censored || m.coarseSteps < 10 {
		t.Errorf("the five minutes hold %+v of %d steps", m.coarseDemand, m.coarseSteps)
	}
}

// Models of other steps, cut or of a later version are learned again, and parts that a
// later version adds are left out.
func TestModelsOfOtherFormats(t *testing.T) {
	now := begin
	m := newModels(now, 10*time.Second)
	for i := range 120 {
		now = now.Add(10 * time.Second)
		m.observe(now, Demand{Seen: true, Cores: 0.3 + 0.1*float64(i%3)})
	}
	packed := m.Marshal()
	extra := appendPart(bytes.Clone(packed), 99, []byte("of a later version"))
	if _, err := unmarshalModels(extra, now, 10*time.Second); err != nil {
		t.Error(err)
	}
	for name, bad := range map[string][]byte{"empty": nil, "cut": packed[:len(packed)-1],
		"header alone": packed[:modelsHeader], "newer": append([]byte{9}, packed[1:]...)} {
		if _, err := unmarshalModels(bad, now, 10*time.Second); err == nil {
			t.Errorf("%s was read", name)
		}
	}
	if _, err := unmarshalModels(packed, now, time.Second); err == nil {
		t.Error("models of other steps were taken")
	}
}

// The verdict is a part of its own: records of before it are read, and half of the
// evidence that it takes to begin is enough to go on.
func TestTheVerdictIsKept(t *testing.T) {
	f := newModels(begin, 10*time.Second)
	for i := range 5000 { // five minutes of harm
		at := begin.Add(time.Duration(i) * time.Second)
		if i < 300 {
			f.Adaptive.Observe(at, 0.6, 0.5, 1)
		} else {
			f.Adaptive.Observe(at, 0.2, 0, 1)
		}
	}
	for _, steers := range []bool{false, true} {
		f.Adaptive.Keep(steers)
		f.update()
		again, err := unmarshalModels(f.Marshal(), begin, f.step)
		if err != nil || again.Lesson != f.Lesson || again.Lesson.Steers != steers {
			t.Errorf("%v: %+v, %+v, %v", steers, f.Lesson, again.Lesson, err)
		}
	}
	if why := plan.ThresholdUnused(&f.Lesson, &knowledge.Policy{CPUTarget: 0.8}); why.Rule != knowledge.RuleKneeTarget {
		t.Errorf("with a fixed target: %s", why)
	}
}

func FuzzModels(f *testing.F) {
	x := newModels(begin, 10*time.Second)
	for i := range 50 {
		x.observe(begin.Add(time.Duration(i+1)*10*time.Second), Demand{Seen: true, Cores: float64(i % 5), Censored: i%7 == 0})
	}
	f.Add(x.Marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := unmarshalModels(b, begin.Add(time.Hour), 10*time.Second)
		if err != nil {
			return
		}
		x.observe(begin.Add(2*time.Hour), Demand{Seen: true, Cores: 1})
		if _, err := unmarshalModels(x.Marshal(), begin.Add(2*time.Hour), 10*time.Second); err != nil {
			t.Fatal(err)
		}
	})
}
