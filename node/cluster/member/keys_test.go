package member

import (
	"slices"
	"sync"
	"testing"
	"time"
)

// TestRemoveAKeyFromTheMiddle: while keys go, those that read the ring see each of the
// others whole (with the race detector: memberlist moves keys in the array that is read).
func TestRemoveAKeyFromTheMiddle(t *testing.T) {
	o := options(0)
	o.Keys = [][]byte{keyOf(1), keyOf(2), keyOf(3), keyOf(4)}
	m := start(t, o)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	readers.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				m.Update(func(meta *Meta) { meta.Load = 1 - meta.Load })
			}
		}
	})
	for range 50 {
		if err := m.RemoveKey(keyOf(2)); err != nil {
			t.Fatal(err)
		}
		if want := []string{KeyName(keyOf(1)), KeyName(keyOf(3)), KeyName(keyOf(4))}; !slices.Equal(m.Keys(), want) {
			t.Fatalf("keys %v, not %v", m.Keys(), want)
		}
		for _, k := range []byte{3, 4} {
			if err := m.RemoveKey(keyOf(k)); err != nil {
				t.Fatal(err)
			}
		}
		for _, k := range []byte{2, 3, 4} {
			if err := m.AddKey(keyOf(k)); err != nil {
				t.Fatal(err)
			}
		}
	}
	close(stop)
	readers.Wait()
	if got := m.snapshot().KeyNames(); !slices.Equal(got, m.Keys()) {
		t.Errorf("others are told of %v, and there are %v", got, m.Keys())
	}
}

// TestGoodbyeOfOneThatWasNeverCounted: a node that was remembered from a former life and
// left while this one was down is no failure less.
func TestGoodbyeOfOneThatWasNeverCounted(t *testing.T) {
	o := options(0)
	o.Kept = []Seen{{ID: idOf(1), Name: "host1", Addr: "127.0.0.1:1", LastSeen: time.Now(), Started: 7}}
	m := start(t, o)
	for range 2 {
		m.leaves.receive(packNotices([]notice{{idOf(1), 7}}))
	}
	if c := m.Counts(); peerOf(m, idOf(1)).Status != "left" || c.Failures != 0 || c.Leaves != 0 {
		t.Errorf("%+v", c)
	}
}
