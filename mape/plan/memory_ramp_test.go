package plan_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// lateness is how late a tick comes, and how long a change of a limit takes.
type lateness struct {
	name  string
	tick  func(r *rand.Rand) time.Duration
	takes func(r *rand.Rand) time.Duration
}

func between(from, to time.Duration) func(*rand.Rand) time.Duration {
	return func(r *rand.Rand) time.Duration { return from + time.Duration(r.Int64N(int64(to-from)+1)) }
}

// latenesses are of a quiet host whose kernel is written, of one whose Engine is asked, and of one
// where a tick in ten comes late.
func latenesses() []lateness {
	return []lateness{
		{"quiet", between(0, 5*time.Millisecond), between(0, time.Millisecond)},
		{"by the Engine", between(0, 20*time.Millisecond), between(20*time.Millisecond, 100*time.Millisecond)},
		{"loaded", func(r *rand.Rand) time.Duration {
			if r.IntN(10) == 0 {
				return between(100*time.Millisecond, 250*time.Millisecond)(r)
			}
			return between(0, 50*time.Millisecond)(r)
		}, between(20*time.Millisecond, 150*time.Millisecond)},
	}
}

// ramp lets memory grow from 64 MiB to a peak and stay there, under a first limit of 192 MiB, and
// returns the highest limit.
func ramp(t *testing.T, rate float64, peak knowledge.Bytes, late lateness, seed uint64) knowledge.Bytes {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	h := newWorld(2)
	h.limit, h.quota = 192*mib, core
	h.load = func(time.Duration) float64 { return 0.2 }
	begin := 4 * time.Second
	h.working = func(at time.Duration) knowledge.Bytes {
		return min(64*mib+knowledge.Bytes(rate*max(at-begin, 0).Seconds()), peak)
	}
	worst, took, highest := time.Duration(0), time.Duration(0), knowledge.Bytes(0)
	h.every = func(f *knowledge.Finding, w *knowledge.Window) time.Duration {
		d := late.tick(r)
		worst = max(worst, d)
		h.memTakes = late.takes(r)
		took = max(took, h.memTakes)
		w.Reaction = 100*time.Millisecond + worst + took
		return min(near(f, w), 200*time.Millisecond) + d // as the loop reads a few busy containers
	}
	for h.at < begin+time.Duration(float64(peak)/rate*1e9)+30*time.Second {
		h.run(50 * time.Millisecond)
		highest = max(highest, h.limit)
	}
	if h.oomKills > 0 {
		t.Errorf("killed at %s; %d changes", h.limit, len(h.done))
	}
	if h.limit < peak {
		t.Errorf("ends at %s", h.limit)
	}
	return highest
}

// Row 114: memory that grows is never killed, also when ticks are late, and its limit never is far
// above its need: what is added is what it grows until the next certain correction.
func TestRow114GrowthDoesNotOvershoot(t *testing.T) {
	for _, late := range latenesses() {
		for _, rate := range []float64{10e6, 40e6, 100e6} {
			for _, peak := range []knowledge.Bytes{337 * mib, 450 * mib, gib} {
				t.Run(fmt.Sprintf("%s/%.0f MB per s/%s", late.name, rate/1e6, peak), func(t *testing.T) {
					worst := 0.0
					for seed := range uint64(10) {
						worst = max(worst, float64(ramp(t, rate, peak, late, seed))/float64(peak))
					}
					t.Logf("highest limit %.2f of the need", worst)
					if worst > 1.35 {
						t.Errorf("the limit went to %.2f of the highest need", worst)
					}
				})
			}
		}
	}
}
