package ops

import (
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/api"
)

// TestMergeOfLiars: a host that tells nonsense, or without end, spoils its own part only.
func TestMergeOfLiars(t *testing.T) {
	line := func(at int64) string {
		b, err := json.Marshal(api.Change{At: time.Unix(at, 0)})
		if err != nil {
			t.Fatal(err)
		}
		return string(b) + "\n"
	}
	for name, text := range map[string]string{
		"nonsense": line(90) + "{]\n" + line(80), "half a change": line(90) + line(80)[:20], "no end of a line": line(90) +
			strings.Repeat("x", maxChange+1),
	} {
		bad, good := newHostHistory("bad", io.NopCloser(strings.NewReader(text))),
			newHostHistory("good", io.NopCloser(strings.NewReader(line(100)+line(50)+line(40))))
		got := merge([]*hostHistory{bad, good}, 3)
		if len(got) != 3 || got[0].Host != "good" || got[1].Host != "bad" || got[2].Host != "good" || bad.err == nil ||
			good.err != nil {
			t.Errorf("%s: %+v; %v, %v", name, got, bad.err, good.err)
		}
	}
}

// TestWithMoves: a move that a record holds already is not told twice, and the newest is
// first.
func TestWithMoves(t *testing.T) {
	at := time.Unix(1000, 0)
	rec := func(id knowledge.ContainerID, r knowledge.Resource, after time.Duration) knowledge.Record {
		return knowledge.Record{Action: knowledge.Action{ID: id, Resize: knowledge.Resize{Resource: r}, At: at.Add(after)}}
	}
	const cpu, mem = knowledge.ResourceCPU, knowledge.ResourceMemory
	for _, c := range []struct {
		name           string
		moves, records []knowledge.Record
		limit          int
		want           []time.Duration
	}{
		{"nothing", nil, nil, 5, nil},
		{"one not written", []knowledge.Record{rec("a", cpu, 5)}, []knowledge.Record{rec("a", cpu, 1)}, 5,
			[]time.Duration{5, 1}},
		{"written meanwhile", []knowledge.Record{rec("a", cpu, 5)}, []knowledge.Record{rec("a", cpu, 5), rec("a", cpu, 1)}, 5,
			[]time.Duration{5, 1}},
		{"another resource is newer", []knowledge.Record{rec("a", cpu, 5)}, []knowledge.Record{rec("a", mem, 9)}, 5,
			[]time.Duration{9, 5}},
		{"another container is newer", []knowledge.Record{rec("a", cpu, 5)}, []knowledge.Record{rec("b", cpu, 9)}, 5,
			[]time.Duration{9, 5}},
		{"no room", []knowledge.Record{rec("a", cpu, 5)}, []knowledge.Record{rec("b", cpu, 9), rec("b", cpu, 8)}, 2,
			[]time.Duration{9, 8}},
	} {
		got := withMoves(c.moves, c.records, c.limit)
		if len(got) != len(c.want) {
			t.Errorf("%s: %+v", c.name, got)
			continue
		}
		for i := range got {
			if after := got[i].Action.At.Sub(at); after != c.want[i] {
				t.Errorf("%s: place %d is %d after", c.name, i, after)
			}
		}
	}
}
