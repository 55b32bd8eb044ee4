package monitor

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/effiscale/effiscale/knowledge"
)

var usual = Cadence{
	Hot: 100 * time.Millisecond, Busy: time.Second, Idle: 5 * time.Second, Slow: 10 * time.Second, Budget: 0.01,
}

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		managed    int
		busy, idle time.Duration
	}{
		{0, time.Second, 5 * time.Second},
		{1, 200 * time.Millisecond, time.Second},
		{100, 200 * time.Millisecond, time.Second},
		{500, 500 * time.Millisecond, 2500 * time.Millisecond},
		{1000, time.Second, 5 * time.Second},
		{100000, time.Second, 5 * time.Second},
	} {
		got := usual.Spread(c.managed)
		if got.Busy != c.busy || got.Idle != c.idle || got.Hot != usual.Hot {
			t.Errorf("%d managed: busy %s, idle %s; want %s, %s", c.managed, got.Busy, got.Idle, c.busy, c.idle)
		}
	}
	free := usual
	free.Budget = 0
	if free.Spread(1) != free {
		t.Error("without a budget the cadence is as configured")
	}
}

func TestNext(t *testing.T) {
	busy := knowledge.Window{Samples: 10, Usage: knowledge.OneCPU / 2, UsageMax: knowledge.OneCPU / 2,
		Usage60: knowledge.OneCPU, Quota: 2 * knowledge.OneCPU}
	idle := knowledge.Window{Samples: 10, Quota: knowledge.OneCPU}
	with := func(w knowledge.Window, f func(*knowledge.Window)) knowledge.Window { f(&w); return w }
	for _, c := range []struct {
		name           string
		w              knowledge.Window
		f              knowledge.Finding
		acted, watched bool
		want           time.Duration
	}{
		{"busy", busy, knowledge.Finding{}, true, false, usual.Busy},
		{"idle", idle, knowledge.Finding{}, true, false, usual.Idle},
		{"idle, but it was busy in the last minute", with(idle, func(w *knowledge.Window) { w.Usage60 = knowledge.OneCPU }),
			knowledge.Finding{}, true, false, usual.Busy},
		{"idle, but its memory grows", with(idle, func(w *knowledge.Window) { w.Growth = 1 }), knowledge.Finding{}, true,
			false, usual.Busy},
		{"new", with(idle, func(w *knowledge.Window) { w.Samples = 2 }), knowledge.Finding{}, true, false, usual.Hot},
		{"a cut is watched", idle, knowledge.Finding{}, true, true, usual.Hot},
		{"throttled", with(busy, func(w *knowledge.Window) { w.ThrottledRun = 1 }), knowledge.Finding{}, true, false,
			usual.Hot},
		{"near its quota", with(busy, func(w *knowledge.Window) { w.UsageMax = 3 * knowledge.OneCPU / 2 }),
			knowledge.Finding{}, true, false, usual.Hot},
		{"starved", busy, knowledge.Finding{CPU: knowledge.SymptomStarved}, true, false, usual.Hot},
		{"memory tight", busy, knowledge.Finding{Memory: knowledge.SymptomTight}, true, false, usual.Hot},
		{"full in 20 s", busy, knowledge.Finding{TimeToFull: 20 * time.Second}, true, false, usual.Hot},
		{"full in an hour", busy, knowledge.Finding{TimeToFull: time.Hour}, true, false, usual.Busy},
		{"starting", busy, knowledge.Finding{Starting: true}, true, false, usual.Hot},
		{"throttled, and not managed", with(busy, func(w *knowledge.Window) { w.ThrottledRun = 1 }),
			knowledge.Finding{Boost: true}, false, false, time.Second},
		{"idle, and not managed", idle, knowledge.Finding{}, false, false, 10 * time.Second},
	} {
		if got := usual.Next(&c.f, &c.w, c.acted, c.watched); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// A container whose memory limit was cut is read before a load can fill the limit, and no more often
// than a busy one.
func TestAfterCut(t *testing.T) {
	const mb = 1000 * 1000
	for _, c := range []struct {
		free knowledge.Bytes // of the limit
		next time.Duration
		want time.Duration
	}{
		{200 * mb, usual.Idle, usual.Busy}, {10 * mb, usual.Idle, usual.Busy}, {600 * mb, usual.Idle, 3 * time.Second},
		{2000 * mb, usual.Idle, usual.Idle}, {10 * mb, usual.Hot, usual.Hot}, {-5 * mb, usual.Idle, usual.Busy},
	} {
		w := knowledge.Window{WindowMemory: knowledge.WindowMemory{MemoryLimit: 100*mb + c.free, MemoryUsage: 100 * mb,
			WorkingSet: 100 * mb, Anon: 100 * mb, Hard: 100 * mb}}
		if got := usual.AfterCut(&w, c.next); got != c.want {
			t.Errorf("%d MB free, next %s: %s, want %s", c.free/mb, c.next, got, c.want)
		}
	}
}

// However many containers, never faster than hot, never slower than twice idle.
func TestCadenceBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := usual.Spread(rapid.IntRange(0, 1e6).Draw(t, "managed"))
		w := knowledge.Window{
			Samples: rapid.IntRange(0, 5).Draw(t, "samples"), ThrottledRun: rapid.IntRange(0, 2).Draw(t, "run"),
			Usage: knowledge.NanoCPU(rapid.Int64Range(0, 4e9).Draw(t, "usage")), Quota: knowledge.NanoCPU(rapid.Int64Range(0,
				4e9).Draw(t, "quota")),
		}
		f := knowledge.Finding{CPU: knowledge.Symptom(rapid.IntRange(0, 5).Draw(t, "cpu")),
			Boost: rapid.Bool().Draw(t, "boost")}
		d := c.Next(&f, &w, rapid.Bool().Draw(t, "acted"), rapid.Bool().Draw(t, "watched"))
		if d < usual.Hot || d > 2*usual.Idle {
			t.Fatalf("next reading in %s", d)
		}
	})
}
