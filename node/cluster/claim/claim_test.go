package claim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type (
	key   = knowledge.ServiceKey
	terms = map[knowledge.ServiceKey]knowledge.Term
)

func term(round uint64, owner knowledge.NodeID) knowledge.Term {
	return knowledge.Term{Round: round, Owner: owner}
}

// disk is a Saver: what it holds is what the next start begins with.
type disk struct {
	mu    sync.Mutex
	kept  terms
	saves int
	err   error // fail, with nothing written
	lie   bool  // fail, with all written
	// during is called in the middle of a save.
	during func()
}

func (d *disk) SaveTerms(some terms) error {
	if d.during != nil {
		d.during()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.saves++
	if d.err != nil && !d.lie {
		return d.err
	}
	if d.kept == nil {
		d.kept = terms{}
	}
	maps.Copy(d.kept, some)
	return d.err
}

func TestAdmit(t *testing.T) {
	for _, c := range []struct {
		name           string
		kept, batch    terms
		refused, after terms
		saves          int
		refusals       uint64
	}{
		{name: "the first", batch: terms{"s": term(1, "a")}, after: terms{"s": term(1, "a")}, saves: 1},
		{name: "equal", kept: terms{"s": term(1, "a")}, batch: terms{"s": term(1, "a")}, after: terms{"s": term(1, "a")}},
		{name: "higher round", kept: terms{"s": term(1, "b")}, batch: terms{"s": term(2, "a")},
			after: terms{"s": term(2, "a")}, saves: 1},
		{name: "higher owner", kept: terms{"s": term(1, "a")}, batch: terms{"s": term(1, "b")},
			after: terms{"s": term(1, "b")}, saves: 1},
		{
			name: "lower", kept: terms{"s": term(2, "a")}, batch: terms{"s": term(1, "b")},
			refused: terms{"s": term(2, "a")}, after: terms{"s": term(2, "a")}, refusals: 1,
		},
		{
			name: "one of each, one save", kept: terms{"s": term(2, "a"), "t": term(2, "a"), "u": term(2, "a"),
				"w": term(9, "c")},
			batch:   terms{"s": term(1, "a"), "t": term(2, "a"), "u": term(3, "a"), "v": term(1, "a")},
			refused: terms{"s": term(2, "a")},
			after:   terms{"s": term(2, "a"), "t": term(2, "a"), "u": term(3, "a"), "v": term(1, "a"), "w": term(9, "c")},
			saves:   1, refusals: 1,
		},
		{name: "nothing", kept: terms{"s": term(2, "a")}, after: terms{"s": term(2, "a")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := &disk{kept: maps.Clone(c.kept)}
			h := NewTerms(c.kept, d)
			refused, err := h.Admit(c.batch)
			if err != nil || !maps.Equal(refused, c.refused) {
				t.Errorf("refused %v, %v, want %v", refused, err, c.refused)
			}
			if all := h.All(); !maps.Equal(all, c.after) || !maps.Equal(d.kept, c.after) {
				t.Errorf("knows %v, saved %v, want %v", all, d.kept, c.after)
			}
			if d.saves != c.saves || h.Refused() != c.refusals {
				t.Errorf("%d saves, %d refusals, want %d and %d", d.saves, h.Refused(), c.saves, c.refusals)
			}
		})
	}
}

// Row 49: while nothing can be written, what was admitted before is obeyed, and
// nothing higher is.
func TestRow49NothingHigherWithoutTheDisk(t *testing.T) {
	full := errors.New("no space left on device")
	d := &disk{}
	h := NewTerms(terms{"s": term(2, "a"), "t": term(2, "a")}, d)
	b := NewClaims(t.Context(), "c", h)
	d.err = full
	refused, err := h.Admit(terms{"s": term(2, "a"), "t": term(3, "b")})
	if !errors.Is(err, full) || !maps.Equal(refused, terms{"t": term(2, "a")}) {
		t.Errorf("refused %v, %v", refused, err)
	}
	if c, err := b.Take("s", term(2, "a")); !errors.Is(err, full) || c != nil || b.Len() != 0 {
		t.Errorf("took %v, %v", c, err)
	}
	if h.Highest("t") != term(2, "a") || h.Highest("s") != term(2, "a") || h.Refused() != 0 {
		t.Errorf("%v, %d refusals", h.All(), h.Refused())
	}
	d.err = nil
	if refused, err = h.Admit(terms{"t": term(3, "b")}); err != nil || len(refused) > 0 {
		t.Errorf("after the disk came back: %v, %v", refused, err)
	}
}

// Row 22: an intent that is sent again after another node took over is refused, also
// by a host that has started anew since.
func TestRow22ReplayedTermsAreRefused(t *testing.T) {
	d := &disk{}
	h := NewTerms(nil, d)
	for i := range 3 {
		if _, err := h.Admit(terms{"s": term(uint64(i+1), "a")}); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		for i := range 2 {
			if refused, _ := h.Admit(terms{"s": term(uint64(i+1), "a")}); refused["s"] != term(3, "a") {
				t.Errorf("round %d: refused %v", i+1, refused)
			}
		}
		if h.Refused() != 2 {
			t.Errorf("%d refusals are counted", h.Refused())
		}
		h = NewTerms(d.kept, d) // kill -9
	}
}

func TestFull(t *testing.T) {
	h := NewTerms(nil, &disk{})
	many := terms{}
	for i := range termsMost + 5 {
		many[key(fmt.Sprint(i))] = term(1, "liar")
	}
	refused, err := h.Admit(many)
	if !errors.Is(err, ErrFull) || len(refused) != 5 || len(h.All()) != termsMost || h.Refused() != 0 {
		t.Errorf("refused %d, %v, knows %d, counts %d", len(refused), err, len(h.All()), h.Refused())
	}
	for s := range h.All() { // the known ones go on
		if refused, err := h.Admit(terms{s: term(2, "a")}); err != nil || len(refused) > 0 {
			t.Errorf("refused %v, %v", refused, err)
		}
		return
	}
}

func forget(t *testing.T, h *Terms, keep func(key) bool) {
	t.Helper()
	if err := h.Forget(keep); err != nil {
		t.Fatal(err)
	}
}

// What is forgotten stays refused, and is not taken again.
func TestForget(t *testing.T) {
	d := &disk{}
	h := NewTerms(terms{"here": term(3, "a"), "gone": term(7, "a"), "gone too": term(7, "z")}, d)
	forget(t, h, func(key) bool { return false })
	if len(h.All()) != 3 {
		t.Fatal("forgot below the bound")
	}
	h.most = 2
	forget(t, h, func(key) bool { return true })
	if len(h.All()) != 3 {
		t.Fatal("forgot what was to be kept")
	}
	h.most = 0
	forget(t, h, func(k key) bool { return k == "here" })
	if all := h.All(); len(all) != 1 || h.Highest("here") != term(3, "a") {
		t.Fatalf("left: %v", all)
	}
	for _, h := range []*Terms{h, NewTerms(d.kept, d)} { // the second is after kill -9
		for _, old := range []knowledge.Term{term(1, "z"), term(7, "a"), term(7, "b"), term(7, "z")} {
			refused, _ := h.Admit(terms{"gone too": old})
			if seen := refused["gone too"]; !seen.After(old) {
				t.Errorf("%v: seen %v", old, seen)
			}
		}
	}
	h = NewTerms(d.kept, d)
	c, err := NewClaims(t.Context(), "a", h).Take("gone", knowledge.Term{})
	if err != nil || c.Term.Round <= 7 {
		t.Errorf("took %v, %v", c, err)
	}
	h = NewTerms(terms{"gone": term(math.MaxUint64, "a")}, &disk{})
	h.most = 0
	forget(t, h, func(key) bool { return false })
	if h.Highest("gone").Round != math.MaxUint64 {
		t.Errorf("%v", h.Highest("gone"))
	}
}

// Row 49: what the disk goes on remembering is not forgotten in memory either.
func TestRow49NothingForgottenWithoutTheDisk(t *testing.T) {
	full := errors.New("no space left on device")
	h := NewTerms(terms{"s": term(2, "a")}, &disk{err: full})
	h.most = 0
	if err := h.Forget(func(key) bool { return false }); !errors.Is(err, full) || h.Highest("s") != term(2, "a") {
		t.Errorf("%v, %v", err, h.All())
	}
}

// Row 49: a write that was done and reported as lost must not be undone by the next
// one: what it dropped from the disk is known by its floor alone after kill -9.
func TestRow49TheFloorNeverComesDown(t *testing.T) {
	d := &disk{kept: terms{"high": term(9, "a"), "low": term(1, "a")}, err: errors.New("input/output error"), lie: true}
	h := NewTerms(maps.Clone(d.kept), d)
	h.most = 1
	if err := h.Forget(func(k key) bool { return k == "low" }); !errors.Is(err, d.err) {
		t.Fatalf("forgot with %v", err)
	}
	d.err = nil
	forget(t, h, func(k key) bool { return k == "high" })
	if got := NewTerms(d.kept, d).Highest("high"); !got.After(term(9, "a")) {
		t.Errorf("after kill -9 the host obeys again from %v", got)
	}
}

// News of a service that come while it is judged are not forgotten with it.
func TestForgetSparesNews(t *testing.T) {
	h := NewTerms(terms{"s": term(1, "a")}, &disk{})
	h.most = 0
	forget(t, h, func(key) bool {
		if _, err := h.Admit(terms{"s": term(2, "a")}); err != nil {
			t.Error(err)
		}
		return false
	})
	if all := h.All(); !maps.Equal(all, terms{"s": term(2, "a")}) {
		t.Errorf("left: %v", all)
	}
}

func TestForgetStopsAtTheBound(t *testing.T) {
	kept := terms{}
	for i := range forgetAbove + 100 {
		kept[key(fmt.Sprint(i))] = term(1, "a")
	}
	h := NewTerms(kept, &disk{})
	forget(t, h, func(key) bool { return false })
	if n := len(h.All()); n != forgetAbove {
		t.Errorf("%d left", n)
	}
}

func TestTake(t *testing.T) {
	h := NewTerms(terms{"s": term(4, "z")}, &disk{})
	b := NewClaims(t.Context(), "a", h)
	for _, c := range []struct {
		above knowledge.Term
		want  uint64
	}{{term(0, ""), 5}, {term(9, "z"), 10}, {term(3, "z"), 11}} {
		old, _ := b.Get("s")
		got, err := b.Take("s", c.above)
		if err != nil || got.Term != term(c.want, "a") || got.Service != "s" || h.Highest("s") != got.Term {
			t.Fatalf("above %v: %v, %v", c.above, got, err)
		}
		if held, ok := b.Get("s"); !ok || held != got || got.Context().Err() != nil {
			t.Errorf("holds %v", held)
		}
		if old != nil && context.Cause(old.Context()) != ErrSuperseded {
			t.Errorf("the older claim: %v", context.Cause(old.Context()))
		}
	}
}

func TestTakeAllSavesOnce(t *testing.T) {
	d := &disk{}
	b := NewClaims(t.Context(), "a", NewTerms(terms{"z": term(math.MaxUint64, "liar")}, d))
	got, err := b.TakeAll(terms{"s": {}, "t": term(5, "b"), "z": {}})
	if !errors.Is(err, ErrExhausted) || len(got) != 2 || got["s"].Term != term(1, "a") || got["t"].Term != term(6, "a") {
		t.Errorf("%v, %v", got, err)
	}
	if d.saves != 1 || b.Len() != 2 || !slices.Equal(b.Keys(), []key{"s", "t"}) {
		t.Errorf("%d saves, holds %v", d.saves, b.Keys())
	}
	if len(b.taking) != 0 {
		t.Errorf("%d are still being taken", len(b.taking))
	}
}

// The later term stays, also when its taker was the faster of two.
func TestTheLaterTermStays(t *testing.T) {
	b := NewClaims(t.Context(), "a", NewTerms(nil, &disk{}))
	slow, _ := b.begin(terms{"s": {}})
	fast, err := b.Take("s", term(1, "a"))
	if err != nil {
		t.Fatal(err)
	}
	b.install(slow, terms{"s": term(1, "a")})
	if held, _ := b.Get("s"); held != fast || fast.Context().Err() != nil {
		t.Errorf("holds %v", held)
	}
	if cause := context.Cause(slow["s"].Context()); cause != ErrSuperseded {
		t.Errorf("the slow one ended with %v", cause)
	}
}

// hook is a resource whose end is tied to a claim.
func hook(c *Claim) (ended chan error) {
	ended = make(chan error, 1)
	context.AfterFunc(c.Context(), func() { ended <- context.Cause(c.Context()) })
	return ended
}

// Row 6: what hangs on a claim ends with it, and learns why: the ring, a higher
// term, a stalled node, a stop.
func TestRow6ClaimsEndWithTheirCause(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(b *Claims, stop func())
		s, o error // of "s" and of the other; nil: goes on
	}{
		{"moved", func(b *Claims, _ func()) { b.End("s", ErrMoved) }, ErrMoved, nil},
		{"superseded", func(b *Claims, _ func()) { b.End("s", ErrSuperseded) }, ErrSuperseded, nil},
		{"not its own", func(b *Claims, _ func()) { b.End("x", ErrMoved) }, nil, nil},
		{"a ring that keeps one", func(b *Claims, _ func()) {
			b.Keep(func(k key) bool { return k == "o" }, ErrMoved)
		}, ErrMoved, nil},
		{"stalled", func(b *Claims, _ func()) { b.EndAll(ErrStalled) }, ErrStalled, ErrStalled},
		{"stopped", func(_ *Claims, stop func()) { stop() }, ErrStopped, ErrStopped},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, stop := context.WithCancel(t.Context())
				b := NewClaims(ctx, "a", NewTerms(nil, &disk{}))
				all, err := b.TakeAll(terms{"s": {}, "o": {}})
				if err != nil {
					t.Fatal(err)
				}
				s, o := hook(all["s"]), hook(all["o"])
				c.end(b, stop)
				synctest.Wait()
				for k, want := range map[key]error{"s": c.s, "o": c.o} {
					if _, holds := b.Get(k); holds != (want == nil) {
						t.Errorf("%s is held: %v", k, holds)
					}
					if got := context.Cause(all[k].Context()); got != want {
						t.Errorf("%s ended with %v, want %v", k, got, want)
					}
				}
				if c.s != nil && <-s != c.s || c.o != nil && <-o != c.o {
					t.Error("what hangs on it was not seen")
				}
				stop()
				synctest.Wait()
				if got, err := b.Take("s", knowledge.Term{}); err != ErrStopped || got != nil {
					t.Errorf("after the stop: %v, %v", got, err)
				}
			})
		})
	}
}

// A claim that ends while its term is being saved never begins, and a slow disk
// holds up no reader.
func TestEndWhileTheDiskIsSlow(t *testing.T) {
	for name, end := range map[string]func(*Claims){
		"End":    func(b *Claims) { b.End("s", ErrStalled) },
		"EndAll": func(b *Claims) { b.EndAll(ErrStalled) },
		"Keep":   func(b *Claims) { b.Keep(func(key) bool { return false }, ErrStalled) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &disk{during: func() { time.Sleep(time.Minute) }}
				h := NewTerms(terms{"s": term(2, "b")}, d)
				b := NewClaims(t.Context(), "a", h)
				start := time.Now()
				go func() {
					time.Sleep(time.Second)
					if refused, err := h.Admit(terms{"s": term(2, "b")}); err != nil || len(refused) > 0 ||
						h.Highest("s") != term(2, "b") {
						t.Errorf("meanwhile: %v, %v", refused, err)
					}
					end(b)
					if _, holds := b.Get("s"); holds || b.Len() != 0 || time.Since(start) != time.Second {
						t.Error("holds a service without a term, or waited")
					}
				}()
				c, err := b.Take("s", knowledge.Term{})
				if err != ErrStalled || c != nil || b.Len() != 0 || len(b.taking) != 0 {
					t.Errorf("took %v, %v", c, err)
				}
				if h.Highest("s") != term(3, "a") {
					t.Errorf("the term that was saved is not seen: %v", h.Highest("s"))
				}
			})
		})
	}
}

// Two that raise terms at once are saved one after the other, the later one judged
// anew: the disk never ends below what was admitted.
func TestAdmitsOfOneMomentAreOrdered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{during: func() { time.Sleep(time.Second) }}
		h := NewTerms(nil, d)
		var second terms
		go func() {
			time.Sleep(time.Millisecond)
			second, _ = h.Admit(terms{"s": term(4, "a")})
		}()
		if refused, err := h.Admit(terms{"s": term(5, "a")}); err != nil || len(refused) > 0 {
			t.Errorf("the first: %v, %v", refused, err)
		}
		synctest.Wait()
		if second["s"] != term(5, "a") || d.kept["s"] != term(5, "a") || d.saves != 1 || h.Refused() != 1 {
			t.Errorf("the second: %v, saved %v in %d saves, %d refusals", second, d.kept, d.saves, h.Refused())
		}
	})
}

// For the race detector: many take and admit the same few services at once.
func TestTogether(t *testing.T) {
	h := NewTerms(nil, &disk{during: runtime.Gosched})
	b := NewClaims(t.Context(), "a", h)
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		seen = map[key]map[knowledge.Term]*Claim{"s": {}, "t": {}}
	)
	for range 8 {
		wg.Go(func() {
			for i := range 200 {
				switch i % 5 {
				case 0, 1, 2:
					got, err := b.TakeAll(terms{"s": {}, "t": {}})
					if err != nil {
						t.Error(err)
					}
					mu.Lock()
					for k, c := range got {
						if seen[k][c.Term] != nil {
							t.Errorf("two claims of %s in %v", k, c.Term)
						}
						seen[k][c.Term] = c
					}
					mu.Unlock()
				case 3:
					top := h.Highest("s")
					_, _ = h.Admit(terms{"s": term(top.Round, "z")})
					b.Keep(func(k key) bool { return k == "s" }, ErrMoved)
				case 4:
					b.End("s", ErrSuperseded)
					_, _ = b.Keys(), h.All()
				}
			}
		})
	}
	wg.Wait()
	for k, claims := range seen {
		held, _ := b.Get(k)
		for _, c := range claims {
			if alive := c.Context().Err() == nil; alive != (c == held) {
				t.Errorf("%s in %v: held %v, alive %v", k, c.Term, c == held, alive)
			}
		}
	}
}

// Row 11: a node that comes and goes every 10 s owns something for 5 s, and then
// nothing until it stays.
func TestRow11FlappingNodeOwnsNothing(t *testing.T) {
	var p HoldDown
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	if !p.Until(now).IsZero() || p.Wait() != 0 {
		t.Error("a node that never flapped is held down")
	}
	owned := time.Duration(0)
	for i, want := range []time.Duration{5, 10, 20, 40, 80, 160, 300, 300} {
		p.Flap(now)
		if p.Wait() != want*time.Second || p.Until(now) != now.Add(p.Wait()) {
			t.Errorf("flap %d: held for %v until %v", i, p.Wait(), p.Until(now))
		}
		for range 10 {
			if p.Until(now).IsZero() {
				owned += time.Second
			}
			now = now.Add(time.Second)
		}
		now = now.Add(10 * time.Second)
	}
	if owned != 5*time.Second {
		t.Errorf("it owned something for %v", owned)
	}
	last := now.Add(-20 * time.Second)
	if got := p.Until(last.Add(holdDownMost - 1)); got != last.Add(holdDownMost) {
		t.Errorf("ends %v", got)
	}
	if got := p.Until(last.Add(holdDownMost)); !got.IsZero() {
		t.Errorf("does not end: %v", got)
	}
	p.Flap(last.Add(holdDownCalm - 1))
	if p.Wait() != holdDownMost {
		t.Errorf("forgotten too early: %v", p.Wait())
	}
	p.Flap(last.Add(2*holdDownCalm - 1))
	if p.Wait() != holdDownFirst {
		t.Errorf("not forgotten: %v", p.Wait())
	}
}

// Row 41: a clock that jumps back a day does not hold a node down for a day.
func TestRow41PenaltyAndTheClock(t *testing.T) {
	var p HoldDown
	now := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	p.Flap(now)
	back := now.Add(-24 * time.Hour)
	if got := p.Until(back); got != back.Add(holdDownFirst) {
		t.Errorf("held until %v", got)
	}
	p.Flap(back)
	if p.Wait() != 2*holdDownFirst || p.Until(back) != back.Add(2*holdDownFirst) {
		t.Errorf("held for %v until %v", p.Wait(), p.Until(back))
	}
}
