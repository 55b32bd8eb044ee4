package ops

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/rs/zerolog"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/store"
	"github.com/effiscale/effiscale/node/api"
)

// TestRow62SameRequestAgain: a key finds how its request ended, good or bad, and
// is good for no other container.
func TestRow62SameRequestAgain(t *testing.T) {
	s, _, err := store.Open(store.Options{Dir: t.TempDir(), Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	o := scale{finder: finder{host: &host{store: s}}, once: newOnce(s, zerolog.Nop())}
	id := knowledge.ContainerID(strings.Repeat("ab", 32))
	for _, c := range []struct {
		key    string
		result knowledge.Result
		kind   api.Kind
		ok     bool
	}{
		{"applied", knowledge.ResultApplied, 0, true},
		{"reverted", knowledge.ResultReverted, 0, true},
		{"open", knowledge.ResultOpen, api.KindUnavailable, false},
		{"refused", knowledge.ResultRefused, api.KindRefused, false},
		{"failed", knowledge.ResultFailed, api.KindUnavailable, false},
	} {
		seq, err := s.Journal.Begin(knowledge.Action{
			Kind: knowledge.ActionResize, ID: id, Name: "web", At: time.Now(), Key: c.key,
			Resize: knowledge.Resize{Resource: knowledge.ResourceMemory, Verb: knowledge.Grow, To: 1 << 28},
		})
		if err != nil {
			t.Fatal(err)
		}
		if c.result != knowledge.ResultOpen {
			if err := s.Journal.End(knowledge.Outcome{Seq: seq, Result: c.result, At: time.Now(), Message: "said"}); err != nil {
				t.Fatal(err)
			}
		}
		for _, ref := range []string{"web", string(id), string(id[:12])} {
			res, _, err := o.repeated(api.ScaleRequest{Container: ref, Key: c.key})
			if c.ok && (err != nil || res.Memory != 1<<28 || len(res.Changes) != 1) {
				t.Errorf("%s: %+v, %v", c.key, res, err)
			}
			if !c.ok && api.KindOf(err) != c.kind {
				t.Errorf("%s: %v", c.key, err)
			}
		}
		if _, _, err := o.repeated(api.ScaleRequest{Container: "other", Key: c.key}); api.KindOf(err) != api.KindRefused {
			t.Errorf("%s, of another container: %v", c.key, err)
		}
	}
}

// TestRow129Direction: row 129, exact limits that lie the other way than the direction are
// refused; without a limit each one is lower.
func TestRow129Direction(t *testing.T) {
	const none = 0
	limits := func(cpu knowledge.NanoCPU, memory knowledge.Bytes) func(knowledge.Resource) int64 {
		return func(r knowledge.Resource) int64 {
			if r == knowledge.ResourceCPU {
				return int64(cpu)
			}
			return int64(memory)
		}
	}
	for _, c := range []struct {
		q      api.ScaleRequest
		limit  func(knowledge.Resource) int64
		refuse string
	}{
		{api.ScaleRequest{Direction: "up", CPU: 0.29}, limits(knowledge.OneCPU, none), "cpu: "},
		{api.ScaleRequest{Direction: "up", CPU: 2}, limits(knowledge.OneCPU, none), ""},
		{api.ScaleRequest{Direction: "up", CPU: 1}, limits(knowledge.OneCPU, none), ""},
		{api.ScaleRequest{Direction: "up", CPU: 2}, limits(none, none), "unlimited"},
		{api.ScaleRequest{Direction: "up", CPU: 2, Memory: 1 << 20}, limits(knowledge.OneCPU, 1<<30), "memory: "},
		{api.ScaleRequest{Direction: "down", CPU: 2}, limits(knowledge.OneCPU, none), "higher"},
		{api.ScaleRequest{Direction: "down", Memory: 1 << 31}, limits(none, 1<<30), "memory: "},
		{api.ScaleRequest{Direction: "down", CPU: 0.5, Memory: 1 << 20}, limits(knowledge.OneCPU, none), ""},
		{api.ScaleRequest{Direction: "down"}, limits(knowledge.OneCPU, none), ""},
		{api.ScaleRequest{CPU: 0.1}, limits(knowledge.OneCPU, none), ""},
	} {
		err := checkDirection(c.q.Direction, wants(c.q), c.limit)
		if c.refuse == "" && err != nil {
			t.Errorf("%+v: %v", c.q, err)
		}
		if c.refuse != "" && (err == nil || api.KindOf(err) != api.KindInvalid || !strings.Contains(err.Error(), c.refuse)) {
			t.Errorf("%+v: %v", c.q, err)
		}
	}
}

// TestByOfAnotherHost: other hosts accept the name of any client, and none that is longer.
func TestByOfAnotherHost(t *testing.T) {
	check := scale{}.method().check
	host := strings.Repeat("h", 64)
	for _, by := range []string{"cli root", "api token " + strings.Repeat("n", 128), strings.Repeat("é", 128)} {
		got := byAt(by, host)
		short, _, _ := strings.Cut(got, " at "+host)
		if !strings.HasPrefix(by, short) || !strings.HasSuffix(got, " at "+host) || !utf8.ValidString(got) {
			t.Errorf("%q became %q", by, got)
		}
		if err := check(api.ScaleRequest{Container: "web", CPU: 1, By: got}); err != nil {
			t.Errorf("%q: %v", got, err)
		}
	}
	long := api.ScaleRequest{Container: "web", CPU: 1, By: strings.Repeat("n", maxBy+1)}
	if err := check(long); api.KindOf(err) != api.KindBadRequest {
		t.Errorf("a longer one: %v", err)
	}
}
