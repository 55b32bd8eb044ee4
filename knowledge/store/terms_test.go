package store

import (
	"errors"
	"fmt"
	"maps"
	"testing"

	"github.com/effiscale/effiscale/knowledge"
)

// TestTerms: what was acknowledged is there in the next life, the empty key too; what
// was taken off is not; and what the disk did not take is not kept anywhere.
func TestTerms(t *testing.T) {
	dir := t.TempDir()
	open := func() *Store {
		s, _, err := Open(Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	term := func(round uint64) knowledge.Term { return knowledge.Term{Round: round, Owner: "a"} }
	s := open()
	for _, some := range []map[knowledge.ServiceKey]knowledge.Term{
		{"web": term(1), "db": term(4), "gone": term(2)},
		{"web": term(3), "gone": {}, "": {Round: 9}, "never": {}},
	} {
		if err := s.Terms.Put(some); err != nil {
			t.Fatal(err)
		}
	}
	want := map[knowledge.ServiceKey]knowledge.Term{"web": term(3), "db": term(4), "": {Round: 9}}
	for range 2 {
		if got := s.Terms.All(); !maps.Equal(got, want) {
			t.Errorf("kept %v, want %v", got, want)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open()
	}
	crowd := map[knowledge.ServiceKey]knowledge.Term{}
	for i := range maxTerms {
		crowd[knowledge.ServiceKey(fmt.Sprint(i))] = term(1)
	}
	if err := s.Terms.Put(crowd); !errors.Is(err, ErrInvalid) || !maps.Equal(s.Terms.All(), want) {
		t.Errorf("too many: %v, and %d are kept", err, len(s.Terms.All()))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Terms.Put(map[knowledge.ServiceKey]knowledge.Term{"web": term(5)}); !errors.Is(err, ErrClosed) ||
		!maps.Equal(s.Terms.All(), want) {
		t.Errorf("after the end: %v, %v", err, s.Terms.All())
	}
}
