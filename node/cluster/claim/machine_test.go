package claim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/effiscale/effiscale/knowledge"
	"pgregory.net/rapid"
)

// world is a few nodes, each a host and a possible owner of the same services, and a
// network that delivers any message at any time, any number of times.
type world struct {
	ctx   context.Context
	nodes []*machine
	sent  []terms // intents under way, for ever
	// issued are all terms that any claim ever had.
	issued map[key]map[knowledge.Term]bool
}

type machine struct {
	id    knowledge.NodeID
	disk  *disk
	terms *Terms
	book  *Claims
	stop  context.CancelFunc
	// The model: the claims that must be held, why each claim of all starts must have
	// ended (nil: it goes on), and the highest term ever obeyed, over all starts.
	held map[key]*Claim
	ends map[*Claim]error
	last terms
}

func newWorld(ctx context.Context, n int) *world {
	w := &world{ctx: ctx, issued: map[key]map[knowledge.Term]bool{}}
	for i := range n {
		m := &machine{
			id: knowledge.NodeID(fmt.Sprint("node", i)), disk: &disk{kept: terms{}},
			ends: map[*Claim]error{}, last: terms{},
		}
		m.boot(ctx)
		w.nodes = append(w.nodes, m)
	}
	return w
}

func (m *machine) boot(ctx context.Context) {
	ctx, m.stop = context.WithCancel(ctx)
	m.terms = NewTerms(m.disk.kept, m.disk)
	m.terms.most = 1
	m.book = NewClaims(ctx, m.id, m.terms)
	m.held = map[key]*Claim{}
}

func drawService(t *rapid.T) key { return rapid.SampledFrom([]key{"s", "t", "u"}).Draw(t, "service") }

func (w *world) draw(t *rapid.T) *machine { return rapid.SampledFrom(w.nodes).Draw(t, "node") }

// take asks some hosts, of which others may know better, and claims.
func (w *world) take(t *rapid.T) {
	m := w.draw(t)
	above := terms{}
	for range rapid.IntRange(1, 3).Draw(t, "services") {
		s := drawService(t)
		above[s] = knowledge.Term{}
		for _, h := range w.nodes {
			if seen := h.terms.Highest(s); rapid.Bool().Draw(t, "asked") && seen.After(above[s]) {
				above[s] = seen
			}
		}
	}
	var cut key // ends in the middle of the save
	if rapid.IntRange(0, 4).Draw(t, "cut") == 0 {
		cut = drawService(t)
		m.disk.during = func() { m.book.End(cut, ErrStalled) }
		defer func() { m.disk.during = nil }()
		m.ended(cut, ErrStalled)
	}
	got, err := m.book.TakeAll(above)
	if failed := m.disk.err; failed != nil {
		if !errors.Is(err, failed) || len(got) > 0 {
			t.Fatalf("took %v without the disk: %v", got, err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	for s, a := range above {
		c := got[s]
		if s == cut {
			if c != nil {
				t.Fatalf("%s has a claim that was ended before it began", s)
			}
			w.issue(t, s, m.terms.Highest(s)) // it was saved: never again
			m.rise(t, s, m.terms.Highest(s))
			continue
		}
		if c == nil || c.Term.Owner != m.id || !c.Term.After(a) || !c.Term.After(m.last[s]) {
			t.Fatalf("%s took %v of %s above %v, and had seen %v", m.id, c, s, a, m.last[s])
		}
		w.issue(t, s, c.Term)
		m.rise(t, s, c.Term)
		m.ended(s, ErrSuperseded)
		m.held[s], m.ends[c] = c, nil
		w.sent = append(w.sent, terms{s: c.Term})
	}
}

// ended notes that the claim of a service, if there is one, must end.
func (m *machine) ended(s key, cause error) {
	if c := m.held[s]; c != nil {
		m.ends[c] = cause
		delete(m.held, s)
	}
}

func (w *world) issue(t *rapid.T, s key, term knowledge.Term) {
	if w.issued[s] == nil {
		w.issued[s] = map[knowledge.Term]bool{}
	}
	if w.issued[s][term] {
		t.Fatalf("a second claim of %s in the term %v", s, term)
	}
	w.issued[s][term] = true
}

// rise notes what a host obeys from now on: it must be on the disk, or below the
// floor there, when a forgotten term was reported as lost and was not.
func (m *machine) rise(t *rapid.T, s key, term knowledge.Term) {
	if m.last[s].After(term) {
		t.Fatalf("%s obeys %v of %s after %v", m.id, term, s, m.last[s])
	}
	if term.After(m.disk.kept[s]) && term.Round > m.disk.kept[Floor].Round {
		t.Fatalf("%s obeys %v of %s, and its disk has %v", m.id, term, s, m.disk.kept[s])
	}
	m.last[s] = term
}

// deliver brings some message that was ever sent to some host.
func (w *world) deliver(t *rapid.T) {
	if len(w.sent) == 0 {
		t.Skip("no messages")
	}
	m := w.draw(t)
	batch := terms{}
	for range rapid.IntRange(1, 3).Draw(t, "messages") {
		maps.Copy(batch, rapid.SampledFrom(w.sent).Draw(t, "message"))
	}
	before, count := terms{}, m.terms.Refused()
	for s := range batch {
		before[s] = m.terms.Highest(s)
	}
	refused, err := m.terms.Admit(batch)
	if err != nil && (m.disk.err == nil || !errors.Is(err, m.disk.err)) {
		t.Fatal(err)
	}
	for s, term := range batch {
		seen, no := refused[s]
		lower, higher := before[s].After(term), term.After(before[s])
		if want := lower || higher && err != nil; no != want || no && seen != before[s] {
			t.Fatalf("%s had seen %v of %s; %v is refused: %v, for %v, %v", m.id, before[s], s, term, no, seen, err)
		}
		if !no {
			m.rise(t, s, term)
		}
		if lower {
			count++
		}
	}
	if m.terms.Refused() != count {
		t.Fatalf("%d refusals counted, not %d", m.terms.Refused(), count)
	}
}

// end ends claims for a reason.
func (w *world) end(t *rapid.T) {
	m := w.draw(t)
	cause := rapid.SampledFrom([]error{ErrMoved, ErrSuperseded, ErrStalled}).Draw(t, "cause")
	s := drawService(t)
	gone := func(k key) bool { return k == s }
	switch rapid.IntRange(0, 2).Draw(t, "how") {
	case 0:
		m.book.End(s, cause)
	case 1:
		m.book.Keep(func(k key) bool { return k == s }, cause)
		gone = func(k key) bool { return k != s }
	case 2:
		m.book.EndAll(cause)
		gone = func(key) bool { return true }
	}
	for k := range m.held {
		if gone(k) {
			m.ended(k, cause)
		}
	}
}

// restart is kill -9 and a new start with what the disk has.
func (w *world) restart(t *rapid.T) {
	m := w.draw(t)
	m.stop()
	for _, c := range m.held {
		<-c.Context().Done()
		m.ends[c] = ErrStopped
	}
	m.boot(w.ctx)
}

// fail breaks a disk: writes are lost, or done and reported as lost, until mended.
func (w *world) fail(t *rapid.T) {
	d := w.draw(t).disk
	d.err = rapid.SampledFrom([]error{nil, nil, errors.New("disk")}).Draw(t, "error")
	d.lie = rapid.Bool().Draw(t, "lie")
}

func (w *world) forget(t *rapid.T) {
	s := drawService(t)
	_ = w.draw(t).terms.Forget(func(k key) bool { return k == s }) // its disk may fail
}

// check holds all books and contexts against the model.
func (w *world) check(t *rapid.T) {
	for _, m := range w.nodes {
		if got, want := m.book.Keys(), slices.Sorted(maps.Keys(m.held)); !slices.Equal(got, want) ||
			m.book.Len() != len(want) {
			t.Fatalf("%s holds %v, want %v", m.id, got, want)
		}
		for s, c := range m.held {
			if held, _ := m.book.Get(s); held != c {
				t.Fatalf("%s holds %v of %s, want %v", m.id, held, s, c)
			}
		}
		for c, want := range m.ends {
			if got := context.Cause(c.Context()); got != want {
				t.Fatalf("%s in %v of %s ended with %v, want %v", c.Service, c.Term, m.id, got, want)
			}
		}
		for s, last := range m.last {
			if last.After(m.terms.Highest(s)) {
				t.Fatalf("%s has forgotten %v of %s", m.id, last, s)
			}
		}
	}
}

// Rows 2, 7, 8 and 42: whatever is cut off, delayed, doubled, killed and started
// again, and whatever any clock shows, no two claims of a service have the same term,
// and no host obeys an older term than it ever did.
func TestRow8OneOwnerInATerm(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t.Context(), rapid.IntRange(1, 5).Draw(rt, "nodes"))
		defer func() {
			for _, m := range w.nodes {
				m.stop()
			}
		}()
		rt.Repeat(map[string]func(*rapid.T){
			"take": w.take, "take again": w.take, "deliver": w.deliver, "deliver again": w.deliver, "end": w.end,
			"restart": w.restart, "fail": w.fail, "forget": w.forget, "": w.check,
		})
	})
}
