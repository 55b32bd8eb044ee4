package member

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"
)

// TestJoinOfManyWhoNeverAnswer: whoever asks for what never answers holds a few dials, and
// no more; others are told so.
func TestJoinOfManyWhoNeverAnswer(t *testing.T) {
	m := start(t, options(1))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	var last error
	for range joinAtOnce + 1 {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		_, last = m.Join(ctx, l.Addr().String())
		cancel()
	}
	if !errors.Is(last, ErrBusy) || len(m.joiner.dials) != joinAtOnce {
		t.Errorf("%v, with %d dials under way", last, len(m.joiner.dials))
	}
}
