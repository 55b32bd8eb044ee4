package relay

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// pours writes n bytes in pieces of 32 KiB, then says err.
func pours(n int, err error) Handler {
	return Handler{Stream: func(_ context.Context, _ knowledge.NodeID, _ []byte, w io.Writer) error {
		piece := make([]byte, 32<<10)
		chance := rand.NewChaCha8([32]byte{})
		for left := n; left > 0; left -= len(piece) {
			_, _ = chance.Read(piece)
			if _, err := w.Write(piece[:min(left, len(piece))]); err != nil {
				return err
			}
		}
		return err
	}}
}

// poured is what pours wrote.
func poured(n int) []byte {
	var b bytes.Buffer
	_ = pours(n, nil).Stream(context.Background(), "", nil, &b)
	return b.Bytes()
}

func smallStreams(_ *Options, l *limits) { l.streamed, l.unread = 1<<20, 300*time.Millisecond }

// TestStream: what is larger than any answer arrives whole, in little memory, and
// what does not is told apart from its end.
func TestStream(t *testing.T) {
	w := newTown(t)
	const large = 20 << 20
	to := w.settle(map[string]Handler{
		"large": pours(large, nil), "empty": pours(0, nil), "broken": pours(700<<10, errors.New("the disk")),
		"no": pours(0, &Error{http.StatusConflict, "not here"}),
		"mirror": {Stream: func(_ context.Context, from knowledge.NodeID, body []byte, w io.Writer) error {
			_, err := w.Write(append([]byte(from+" says "), body...))
			return err
		}},
		"careless": {Stream: func(_ context.Context, _ knowledge.NodeID, _ []byte, w io.Writer) error {
			for range 80 {
				_, _ = w.Write(make([]byte, 1<<20))
			}
			return nil
		}},
	}, nil)
	from := w.settle(nil, nil)
	read := func(method string) ([]byte, error) {
		s, err := from.Stream(t.Context(), to.ID(), method, []byte("hello"))
		if err != nil {
			return nil, err
		}
		defer s.Close()
		return io.ReadAll(s)
	}
	if b, err := read("large"); err != nil || !bytes.Equal(b, poured(large)) {
		t.Errorf("large: %d bytes, %v", len(b), err)
	}
	if b, err := read("empty"); err != nil || len(b) > 0 {
		t.Errorf("empty: %q, %v", b, err)
	}
	if b, err := read("mirror"); err != nil || string(b) != string(from.ID())+" says hello" {
		t.Errorf("mirror: %q, %v", b, err)
	}
	if b, err := read("broken"); err == nil || !bytes.HasPrefix(poured(700<<10), b) {
		t.Errorf("broken: %d bytes, %v", len(b), err)
	}
	said := new(Error)
	if _, err := read("no"); !errors.As(err, &said) || said.Status != http.StatusConflict || said.Text != "not here" {
		t.Errorf("no: %v", err)
	}
	if b, err := read("careless"); err == nil { // 80 MiB, in spite of all errors
		t.Errorf("careless: %d bytes, and no error", len(b))
	}
	if _, err := read("none"); !errors.As(err, &said) || said.Status != http.StatusNotFound {
		t.Errorf("none: %v", err)
	}
	if _, err := from.Call(t.Context(), to.ID(), "empty",
		nil); err != nil { // a stream is nothing to Call, but no harm either
		t.Errorf("called: %v", err)
	}
}

// TestStreamBomb: a caller takes no more than the bound, however small it was packed.
func TestStreamBomb(t *testing.T) {
	w := newTown(t)
	to := w.settle(map[string]Handler{"bomb": {Stream: func(_ context.Context, _ knowledge.NodeID, _ []byte,
		w io.Writer) error {
		_, err := w.Write(make([]byte, 32<<20))
		return err
	}}}, nil)
	s, err := w.settle(nil, smallStreams).Stream(t.Context(), to.ID(), "bomb", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if n, err := io.Copy(io.Discard, s); !errors.Is(err, errBody) || n > 1<<20 {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// TestStreamNobodyReads: a caller that does not read is cut off, holds no more than
// the window, and delays no call on the same link meanwhile.
func TestStreamNobodyReads(t *testing.T) {
	w := newTown(t)
	ended := make(chan error, 4)
	endless := Handler{Stream: func(ctx context.Context, _ knowledge.NodeID, _ []byte, w io.Writer) (err error) {
		defer func() { ended <- err }()
		return pours(60<<20, nil).Stream(ctx, "", nil, w)
	}}
	to := w.settle(map[string]Handler{"endless": endless, "echo": {Serve: echo}},
		func(_ *Options, l *limits) { l.unread = 2 * time.Second })
	from := w.settle(nil, nil)
	var held []io.ReadCloser
	for range 2 {
		s, err := from.Stream(t.Context(), to.ID(), "endless", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		held = append(held, s)
	}
	said := new(Error)
	if _, err := from.Stream(t.Context(), to.ID(), "endless", nil); !errors.As(err, &said) ||
		said.Status != http.StatusTooManyRequests {
		t.Errorf("a third stream: %v", err)
	}
	body := make([]byte, 100<<10)
	for range 10 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if b, err := from.Call(ctx, to.ID(), "echo", body); err != nil || len(b) < len(body) {
			t.Errorf("a call meanwhile: %d bytes, %v", len(b), err)
		}
		cancel()
	}
	for range held {
		select {
		case err := <-ended:
			if err == nil {
				t.Error("60 MiB went to somebody who does not read")
			}
		case <-time.After(10 * time.Second):
			t.Fatal("a caller that does not read is waited for")
		}
	}
	if n, err := io.Copy(io.Discard, held[0]); err == nil {
		t.Errorf("read %d bytes after all, and no error", n)
	}
}

// TestStreamClosed: the other end stops when the caller has enough, and what waits at
// either end goes with it.
func TestStreamClosed(t *testing.T) {
	w := newTown(t)
	ended := make(chan error, 1)
	to := w.settle(map[string]Handler{"endless": {Stream: func(ctx context.Context, _ knowledge.NodeID, _ []byte,
		w io.Writer) (err error) {
		defer func() { ended <- err }()
		return pours(60<<20, nil).Stream(ctx, "", nil, w)
	}}}, nil)
	from := w.settle(nil, nil)
	busy, err := from.peer(to.ID())
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		before := runtime.NumGoroutine()
		s, err := from.Stream(t.Context(), to.ID(), "endless", nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(s, make([]byte, 10)); err != nil {
			t.Error(err)
		}
		if err := errors.Join(s.Close(), s.Close()); err != nil {
			t.Error(err)
		}
		select {
		case err := <-ended:
			if err == nil {
				t.Error("it wrote all")
			}
		case <-time.After(5 * time.Second):
			t.Fatal("it goes on writing")
		}
		eventually(t, "nothing is left", func() bool {
			return runtime.NumGoroutine() <= before+6 &&
				busy.pending.Load() == 0
		})
	}
}
