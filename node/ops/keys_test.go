package ops

import (
	"errors"
	"slices"
	"testing"
)

// TestKeysSayItOnce: what holds for many nodes is one note, and one line of an error.
func TestKeysSayItOnce(t *testing.T) {
	ring := &KeyRing{Given: [][]byte{make([]byte, 32)}}
	o := &keys{peers: &peers{}, ring: ring}
	gone := errors.New("cannot call node 0123abcd: connection refused")
	late := errors.New("cannot call node 4567abcd: connection refused")
	k := o.merge([]heldKeys{{name: "a", names: keyNames(ring.Given)}, {name: "b", err: gone}, {name: "c", err: late},
		{name: "d", err: errors.New("odd")}})
	if want := []string{"b, c: connection refused", "d: odd"}; !slices.Equal(k.Notes, want) {
		t.Errorf("%q, not %q", k.Notes, want)
	}
	if err := unanswered([]heldKeys{{name: "a"}}); err != nil {
		t.Error(err)
	}
}
