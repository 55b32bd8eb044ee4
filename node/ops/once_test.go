package ops

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/effiscale/effiscale/knowledge/store"
	"github.com/effiscale/effiscale/node/api"
)

// ended is an answer as a client gets it.
func ended(r api.ScaleResult, err error) string {
	b, _ := json.Marshal(r)
	return fmt.Sprintf("%s %v %v", b, api.KindOf(err), err)
}

// TestRow130AnsweredOnce: row 130, a key's request runs once, and its answer, good or bad, is the
// same to the byte, also for requests at once and after a restart; another request is refused.
func TestRow130AnsweredOnce(t *testing.T) {
	dir := t.TempDir()
	open := func() (*once, *store.Store) {
		s, _, err := store.Open(store.Options{Dir: dir, Log: zerolog.Nop()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return newOnce(s, zerolog.Nop()), s
	}
	o, s := open()
	results := map[string]error{
		"good": nil, "refused": api.Errorf(api.KindRefused, "at-max: no"), "failed": api.Errorf(api.KindUnavailable, "no Engine"),
		"broken": fmt.Errorf("cannot write"), "forbidden": api.Errorf(api.KindForbidden, "no"),
	}
	first := map[string]string{}
	var runs atomic.Int64
	run := func(err error) func(context.Context) (api.ScaleResult, error) {
		return func(context.Context) (api.ScaleResult, error) {
			n := runs.Add(1)
			time.Sleep(10 * time.Millisecond)
			if err != nil {
				return api.ScaleResult{}, err
			}
			changes := []api.Change{{At: time.Now(), TookMS: 0.1}}
			return api.ScaleResult{CPUQuota: n, Notes: []string{"<é>"}, Changes: changes}, nil
		}
	}
	for key, err := range results {
		runs.Store(0)
		var wait sync.WaitGroup
		var mu sync.Mutex
		for range 8 {
			wait.Go(func() {
				got := ended(answerOnce(t.Context(), o, key, "one", run(err)))
				mu.Lock()
				defer mu.Unlock()
				if first[key] == "" {
					first[key] = got
				}
				if got != first[key] {
					t.Errorf("%s: %s, first %s", key, got, first[key])
				}
			})
		}
		wait.Wait()
		if n := runs.Load(); n != 1 {
			t.Errorf("%s ran %d times", key, n)
		}
	}
	_ = s.Close()
	o, _ = open()
	runs.Store(0)
	for key, was := range first {
		if got := ended(answerOnce(t.Context(), o, key, "one", run(nil))); got != was {
			t.Errorf("%s after a restart: %s, first %s", key, got, was)
		}
		if _, err := answerOnce(t.Context(), o, key, "two", run(nil)); api.KindOf(err) != api.KindRefused {
			t.Errorf("another request with the key %s: %v", key, err)
		}
		if _, err := answerOnce(t.Context(), o, key, "one", func(context.Context) ([]string, error) {
			return nil, nil
		}); key != "good" && api.KindOf(err) != api.KindOf(results[key]) {
			t.Errorf("%s: %v", key, err)
		}
	}
	if n := runs.Load(); n != 0 {
		t.Errorf("ran again %d times", n)
	}
}

// TestRow130NotAnswered: what began nothing may be sent again with its key; what began and was
// not answered goes on when its client is gone, and is the same request.
func TestRow130NotAnswered(t *testing.T) {
	s, _, err := store.Open(store.Options{Dir: t.TempDir(), Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	o := newOnce(s, zerolog.Nop())
	fail := func(err error) func(context.Context) (int, error) {
		return func(context.Context) (int, error) { return 0, err }
	}
	good := func(context.Context) (int, error) { return 7, nil }
	for _, err := range []error{api.Errorf(api.KindInvalid, "up"), api.Errorf(api.KindNotFound, "no"),
		api.Errorf(api.KindBadRequest, "no")} {
		key := err.Error() + fmt.Sprint(api.KindOf(err))
		if _, got := answerOnce(t.Context(), o, key, "one", fail(err)); got == nil {
			t.Error("no error")
		}
		if got, err := answerOnce(t.Context(), o, key, "two", good); err != nil || got != 7 {
			t.Errorf("%s: %v %v", key, got, err)
		}
	}
	for _, err := range []error{context.DeadlineExceeded, notFinal{api.Errorf(api.KindUnavailable, "still running")}} {
		key := err.Error()
		if _, got := answerOnce(t.Context(), o, key, "one", fail(err)); got == nil {
			t.Error("no error")
		}
		if _, err := answerOnce(t.Context(), o, key, "two", good); api.KindOf(err) != api.KindRefused {
			t.Errorf("%s, another request: %v", key, err)
		}
		if got, err := answerOnce(t.Context(), o, key, "one", good); err != nil || got != 7 {
			t.Errorf("%s: %v %v", key, got, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	got, err := answerOnce(ctx, o, "gone", "one", func(work context.Context) (int, error) {
		cancel()
		return 9, work.Err()
	})
	if err != nil || got != 9 {
		t.Errorf("ended with its client: %v %v", got, err)
	}
}
