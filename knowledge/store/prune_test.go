package store

import (
	"fmt"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/history"
)

func TestSeriesComeBack(t *testing.T) {
	s, _ := mustOpen(t, options(t, &clock{epoch}))
	series := history.NewSeries()
	for i := range 26 * 60 {
		at := epoch.Add(time.Duration(i) * time.Minute)
		series.Add(knowledge.Point{At: at.UnixNano(), CPU: float32(i%60) / 10, WorkingSet: 64 * knowledge.MiB}, time.Second,
			1)
		if i%7 == 0 {
			if err := s.Learned.Commit(Batch{Series: map[knowledge.ServiceKey][]history.Chunk{"w": series.Chunks(),
				"ww": nil}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	end := epoch.Add(26 * time.Hour)
	fine, err := s.Learned.Series("w", history.Fine, end.Add(-2*time.Hour), end)
	if err != nil || len(fine) < 110 || len(fine) > 120 || fine[0].MeanCPU != 0 || fine[30].MeanCPU != 3 {
		t.Fatalf("%d minutes, %v", len(fine), err)
	}
	coarse, err := s.Learned.Series("w", history.Coarse, time.Time{}, end)
	if err != nil || len(coarse) < 26*6-2 || !coarse[0].At.Equal(epoch) {
		t.Fatalf("%d of ten minutes, %v", len(coarse), err)
	}
	if other, err := s.Learned.Series("ww", history.Fine, time.Time{}, end); err != nil || len(other) != 0 {
		t.Fatalf("another service: %d, %v", len(other), err)
	}
	running, err := s.Learned.Running("w", end.Add(-time.Minute))
	if err != nil || len(running) != 2 {
		t.Fatalf("%d running chunks, %v", len(running), err)
	}
	for _, c := range running {
		if err := history.NewSeries().Restore(c); err != nil {
			t.Fatal(err)
		}
	}
}

// Row 51: what is old is forgotten in its time; row 41: not after a clock jump.
func TestRow41Row51Prune(t *testing.T) {
	c := &clock{epoch}
	s, _ := mustOpen(t, options(t, c))
	commit := func(b Batch) {
		t.Helper()
		if err := s.Learned.Commit(b); err != nil {
			t.Fatal(err)
		}
	}
	prune := func(after time.Duration) (profiles, states, chunks int) {
		t.Helper()
		c.now = epoch.Add(after)
		if err := s.Prune(c.now); err != nil {
			t.Fatal(err)
		}
		return keysIn(t, s, bucketProfiles), keysIn(t, s, bucketStates), keysIn(t, s, bucketSeries)
	}
	chunk := func(tier history.Tier) history.Chunk {
		return history.Chunk{Tier: tier, Start: epoch.Truncate(tier.Span()).Unix(), Data: []byte{1}}
	}
	commit(Batch{
		Profiles: map[knowledge.ServiceKey][]byte{"a": {1}, "b": {1}}, States: map[knowledge.ContainerID][]byte{"x": {1},
			"y": {1}, "z": {1}},
		Series: map[knowledge.ServiceKey][]history.Chunk{"a": {chunk(history.Fine), chunk(history.Coarse)}},
	})
	if p, st, ch := prune(25 * time.Hour); p != 2 || st != 3 || ch != 2 {
		t.Fatalf("no list of existing containers: %d %d %d", p, st, ch)
	}
	commit(Batch{Alive: []knowledge.ContainerID{"x"}})
	if p, st, ch := prune(27 * time.Hour); p != 2 || st != 1 || ch != 1 {
		t.Fatalf("after 27 h: %d %d %d", p, st, ch)
	}
	commit(Batch{Profiles: map[knowledge.ServiceKey][]byte{"b": {2}}})
	s.distrust = epoch.Add(40 * 24 * time.Hour) // as after a jump of the clock
	if p, _, ch := prune(31 * 24 * time.Hour); p != 2 || ch != 1 {
		t.Fatalf("the clock jumped, yet %d profiles and %d chunks are left", p, ch)
	}
	s.distrust = time.Time{}
	if p, st, ch := prune(31 * 24 * time.Hour); p != 1 || st != 1 || ch != 1 {
		t.Fatalf("after 31 days: %d %d %d", p, st, ch)
	}
	if p, st, ch := prune(70 * 24 * time.Hour); p != 0 || st != 1 || ch != 0 {
		t.Fatalf("after 70 days: %d %d %d", p, st, ch)
	}
}

// Row 51: more services than there is room for: the longest unseen go first.
func TestRow51OldestGoFirst(t *testing.T) {
	c := &clock{epoch}
	o := options(t, c)
	o.MaxSize = 1 << 20 // 64 profiles, 128 KiB of series
	s, _ := mustOpen(t, o)
	for i := range 100 {
		c.now = c.now.Add(time.Minute)
		key := knowledge.ServiceKey(fmt.Sprint(i))
		chunks := []history.Chunk{{Tier: history.Fine, Start: int64(i) * 3600, Data: make([]byte, 2000)},
			{Tier: history.Coarse, Start: 0, Data: make([]byte, 500)}}
		b := Batch{Profiles: map[knowledge.ServiceKey][]byte{key: make([]byte, 100)},
			Series: map[knowledge.ServiceKey][]history.Chunk{key: chunks}}
		if err := s.Learned.Commit(b); err != nil {
			t.Fatal(err)
		}
	}
	s.distrust = c.now.Add(time.Hour) // only their number matters here
	if err := s.Prune(c.now); err != nil {
		t.Fatal(err)
	}
	ps, err := s.Learned.Profiles()
	if err != nil || len(ps) != 64 || ps["99"] == nil || ps["35"] != nil {
		t.Fatalf("%d profiles, %v", len(ps), err)
	}
	if got, err := s.Learned.Running("99", time.Unix(10, 0)); err != nil || len(got) != 1 ||
		got[0].Tier != history.Coarse {
		t.Fatalf("a day's chunk went before an hour's: %v, %v", got, err)
	}
	if n := keysIn(t, s, bucketSeries); n < 100 || n > 150 {
		t.Fatalf("%d chunks", n)
	}
}
