package trust

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"pgregory.net/rapid"

	"github.com/effiscale/effiscale/knowledge"
)

type note struct {
	N    int    `cbor:"1,keyasint"`
	Text string `cbor:"2,keyasint,omitempty"`
}

// ours is the start of the recipient in all tests.
const ours = 7

func seal(t testing.TB, s *Sealer, to knowledge.NodeID, v any) []byte {
	t.Helper()
	b, err := s.Seal("note", to, ours, v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSealOpen(t *testing.T) {
	s, self := &Sealer{Identity: identity(t, 1), Epoch: 3}, identity(t, 2).ID()
	o := NewOpener(self, ours, nil)
	for i := range 2 {
		var got note
		from, v, err := o.Open(seal(t, s, self, note{N: 7, Text: "x"}), "note", &got)
		if err != nil || from != s.Identity.ID() || got != (note{7, "x"}) ||
			v != (knowledge.Version{Epoch: 3, Seq: uint64(i + 1)}) {
			t.Errorf("%d: %v of %s, %v, %v", i, got, from, v, err)
		}
	}
	if o.Counts() != (Refusals{}) {
		t.Errorf("counted %+v", o.Counts())
	}
}

// TestRow22ReplayedMessage: what was recorded is worth nothing, in this start of
// the sender, after its next one, for another node, or after our own restart.
func TestRow22ReplayedMessage(t *testing.T) {
	who, self := identity(t, 1), identity(t, 2).ID()
	s, o := &Sealer{Identity: who, Epoch: 1}, NewOpener(self, ours, nil)
	recorded, late := seal(t, s, self, note{N: 1}), seal(t, s, self, note{N: 2})
	open := func(o *Opener, b []byte) error {
		_, _, err := o.Open(b, "note", new(note))
		return err
	}
	if err := open(o, recorded); err != nil {
		t.Fatal(err)
	}
	if err := open(o, recorded); !errors.Is(err, ErrReplay) {
		t.Errorf("second time: %v", err)
	}
	if err := open(NewOpener(identity(t, 3).ID(), ours, nil), recorded); !errors.Is(err, ErrRecipient) {
		t.Errorf("at another node: %v", err)
	}
	for _, b := range [][]byte{recorded, late} { // heard before, or on its way when we were killed
		if err := open(NewOpener(self, ours+1, nil), b); !errors.Is(err, ErrRecipient) {
			t.Errorf("after our restart: %v", err)
		}
	}
	if err := open(o, seal(t, &Sealer{Identity: who, Epoch: 2}, self, note{})); err != nil {
		t.Errorf("the sender's next life: %v", err)
	}
	if err := open(o, late); !errors.Is(err, ErrReplay) {
		t.Errorf("of a start that ended: %v", err)
	}
	other, err := (&Sealer{Identity: who, Epoch: 1}).Seal("other kind", self, ours, note{})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := o.Open(other, "other kind", new(note)); !errors.Is(err, ErrReplay) {
		t.Errorf("another kind of a start that ended: %v", err)
	}
	if c := o.Counts(); c.Replay != 3 {
		t.Errorf("counted %+v, want 3 replays", c)
	}
}

func TestOpenRefuses(t *testing.T) {
	s, self := &Sealer{Identity: identity(t, 1), Epoch: 1}, identity(t, 2).ID()
	forge := func(change func(*message, *envelope)) []byte {
		var e envelope
		var m message
		if err := Unmarshal(seal(t, s, self, note{N: 1}), &e); err != nil {
			t.Fatal(err)
		}
		if err := Unmarshal(e.Message, &m); err != nil {
			t.Fatal(err)
		}
		change(&m, &e)
		b, err := Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	inner := func(m *message) []byte {
		b, err := Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	liar := identity(t, 9)
	wrongKind, err := s.Seal("other", self, ours, note{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		b    []byte
		want error
	}{
		{"nothing", nil, ErrMalformed},
		{"garbage", []byte("GET / HTTP/1.1\r\n\r\n"), ErrMalformed},
		{"huge", make([]byte, MaxMessage+1), ErrTooLarge},
		{"one more byte", append(seal(t, s, self, note{}), 0), ErrMalformed},
		{"another kind", wrongKind, ErrMalformed},
		{"another's", seal(t, s, liar.ID(), note{}), ErrRecipient},
		{"to nobody", seal(t, s, "", note{}), ErrRecipient},
		{"changed", forge(func(m *message, e *envelope) { m.Seq += 100; e.Message = inner(m) }), ErrSigner},
		{"no signature", forge(func(_ *message, e *envelope) { e.Sig = nil }), ErrSigner},
		{"another's name", forge(func(m *message, e *envelope) {
			m.Public = liar.Public()
			e.Message = inner(m)
			e.Sig = liar.Sign(sealed(e.Message))
		}), ErrSigner},
		{"short key", forge(func(m *message, e *envelope) { m.Public = m.Public[:8]; e.Message = inner(m) }), ErrSigner},
		{"another domain", forge(func(_ *message, e *envelope) { e.Sig = s.Identity.Sign(e.Message) }), ErrSigner},
		{"no member", seal(t, &Sealer{Identity: liar}, self, note{}), ErrSigner},
		{"another type", seal(t, s, self, []int{1}), ErrMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := NewOpener(self, ours, func(id knowledge.NodeID) bool { return id == s.Identity.ID() })
			if from, _, err := o.Open(c.b, "note", new(note)); !errors.Is(err, c.want) || from != "" {
				t.Errorf("from %q: %v, want %v", from, err, c.want)
			}
			if c := o.Counts(); c.Malformed+c.Signer+c.Recipient+c.TooLarge != 1 {
				t.Errorf("counted %+v", c)
			}
		})
	}
}

// TestNewerVersionsMayAddKeys: a key that this version does not have is signed
// and skipped.
func TestNewerVersionsMayAddKeys(t *testing.T) {
	s, self := &Sealer{Identity: identity(t, 1)}, identity(t, 2).ID()
	b := seal(t, s, self, map[int]any{1: 5, 2: "x", 99: []int{1, 2}})
	var got note
	if _, _, err := NewOpener(self, ours, nil).Open(b, "note", &got); err != nil || got != (note{5, "x"}) {
		t.Errorf("%v, %v", got, err)
	}
}

// TestWindow is held against a twin that keeps every count for ever.
func TestWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w window
		taken := map[uint64]bool{}
		var order []uint64 // accepted, as they came
		for _, seq := range rapid.SliceOfN(rapid.Uint64Range(0, 300), 200, 500).Draw(t, "seqs") {
			ok := w.accept(seq)
			if ok && (taken[seq] || seq == 0) {
				t.Fatalf("%d was accepted twice", seq)
			}
			higher := 0
			for _, s := range order {
				if s > seq {
					higher++
				}
			}
			if !ok && !taken[seq] && seq != 0 && higher < maxWindow {
				t.Fatalf("%d was refused, though only %d overtook it", seq, higher)
			}
			if ok {
				taken[seq], order = true, append(order, seq)
			}
			if len(w.seen) > maxWindow {
				t.Fatalf("%d counts are kept", len(w.seen))
			}
		}
	})
}

func TestSendersAreBounded(t *testing.T) {
	m := newMemory()
	for i := range maxSenders + 100 {
		m.accept(knowledge.NodeID(rune(0x4e00+i)), "k", knowledge.Version{Epoch: 1, Seq: 1})
	}
	if len(m.senders) != maxSenders || m.recent.Len() != maxSenders {
		t.Errorf("%d and %d senders are kept, want %d", len(m.senders), m.recent.Len(), maxSenders)
	}
}

func TestCBOR(t *testing.T) {
	deep := append(make([]byte, 0, 18), strings.Repeat("\x81", 17)...)
	for name, b := range map[string][]byte{
		"a key twice":            {0xa2, 1, 1, 1, 2},
		"a length to come":       {0x9f, 1, 0xff},
		"a tag":                  {0xc1, 1},
		"NaN":                    {0xf9, 0x7e, 0},
		"infinity":               {0xf9, 0x7c, 0},
		"17 levels":              append(deep, 1),
		"65537 elements":         append([]byte{0x9a, 0, 1, 0, 1}, make([]byte, 65537)...),
		"a header and no bodies": {0x9a, 0, 0, 0xff, 0xff},
		"text that is no UTF-8":  {0x61, 0xff},
	} {
		var v any
		if err := Unmarshal(b, &v); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v, %v", name, v, err)
		}
	}
	for _, bad := range []float64{math.NaN(), math.Inf(1)} {
		if _, err := Marshal(bad); err == nil {
			t.Errorf("%v was encoded", bad)
		}
	}
	if _, err := Marshal(make([]byte, MaxMessage)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("4 MiB and a head: %v", err)
	}
}

func FuzzUnmarshal(f *testing.F) {
	b, err := Marshal(knowledge.Intent{Service: "s", Envelopes: make([]knowledge.Assigned, 2)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{0xa2, 1, 1, 1, 2})
	f.Fuzz(func(t *testing.T, b []byte) {
		var in knowledge.Intent
		if Unmarshal(b, &in) == nil {
			once, err := Marshal(in)
			if err != nil {
				t.Fatal(err)
			}
			var again knowledge.Intent
			if err := Unmarshal(once, &again); err != nil {
				t.Fatal(err)
			}
			if twice, err := Marshal(again); err != nil || string(twice) != string(once) {
				t.Fatalf("%x became %x, %v", once, twice, err)
			}
		}
		var v any
		_ = Unmarshal(b, &v)
	})
}

// FuzzOpen: whatever is flipped, nothing opens but what was sealed.
func FuzzOpen(f *testing.F) {
	s, self := &Sealer{Identity: identity(f, 1), Epoch: 1}, identity(f, 2).ID()
	good := seal(f, s, self, note{N: 1, Text: "hello"})
	f.Add(good)
	for _, e := range []any{envelope{}, []int{1, 2}, map[int]int{1: 1}} {
		b, err := cbor.Marshal(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var n note
		_, _, err := NewOpener(self, ours, nil).Open(b, "note", &n)
		if err == nil && (n != note{N: 1, Text: "hello"}) {
			t.Fatalf("%x opened to %v", b, n)
		}
		if err != nil && string(b) == string(good) {
			t.Fatal(err)
		}
	})
}

func BenchmarkSealOpen(b *testing.B) {
	s, self := &Sealer{Identity: identity(b, 1), Epoch: 1}, identity(b, 2).ID()
	o := NewOpener(self, ours, nil)
	v := note{N: 1, Text: strings.Repeat("x", 2000)}
	size := 0
	for b.Loop() {
		sealed := seal(b, s, self, v)
		size = len(sealed)
		if _, _, err := o.Open(sealed, "note", new(note)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(size-2005), "overhead-B")
}
