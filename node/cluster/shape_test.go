package cluster

import (
	"bytes"
	"reflect"
	"runtime"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/plan"
	"github.com/effiscale/effiscale/node/cluster/trust"
)

// TestShapes: messages of an honest node are read as they are.
func TestShapes(t *testing.T) {
	e := knowledge.Envelope{Memory: 1, Reason: knowledge.Because(knowledge.RuleBoost, 1, 2), At: time.Unix(1, 0).UTC()}
	in := knowledge.Intent{Service: "s", Host: "h", Seq: 3, Envelopes: []knowledge.Assigned{{ID: "c", Envelope: e}}}
	for _, v := range []struct{ in, out any }{
		{[]plan.Report{{Service: "s", Replicas: []plan.Reported{{ID: "c", Envelope: e}, {ID: "d"}}}, {Service: "t"}},
			new(reportList)},
		{[]Declared{{Intent: in, Votes: []trust.Vote{{Voter: "v", Public: []byte{1}, Sig: []byte{2}}}}, {}},
			new(declarations)},
		{in, new(question)},
	} {
		b, err := trust.Marshal(v.in)
		if err != nil {
			t.Fatal(err)
		}
		if err := trust.Unmarshal(b, v.out); err != nil {
			t.Errorf("%T: %v", v.out, err)
		}
		if got := reflect.ValueOf(v.out).Elem().Convert(reflect.TypeOf(v.in)).Interface(); !reflect.DeepEqual(got,
			v.in) {
			t.Errorf("%+v became %+v", v.in, got)
		}
	}
}

// TestRow21ListsOfNothing: a byte for each replica, envelope or vote of a message does not
// become hundreds.
func TestRow21ListsOfNothing(t *testing.T) {
	many := append([]byte{0x99, 0xea, 0x60}, bytes.Repeat([]byte{0xa0}, 60_000)...) // a list of empty maps
	list := func(head ...byte) []byte {                                             // of 16 maps that hold it
		b := []byte{0x90}
		for range 16 {
			b = append(append(b, head...), many...)
		}
		return b
	}
	for name, v := range map[string]struct {
		body []byte
		into any
	}{
		"replicas":  {list(append([]byte{0xa1, 0x68}, "Replicas"...)...), new(reportList)},
		"reports":   {many, new(reportList)},
		"envelopes": {list(0xa1, 1, 0xa1, 5), new(declarations)},
		"votes":     {list(0xa1, 2), new(declarations)},
		"intents":   {many, new(declarations)},
		"a vote":    {append([]byte{0xa1, 5}, many...), new(question)},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := trust.Unmarshal(v.body, v.into)
		runtime.ReadMemStats(&after)
		if took := (after.TotalAlloc - before.TotalAlloc) >> 20; err == nil || took > 64 {
			t.Errorf("%s: %d KiB took %d MiB, %v", name, len(v.body)>>10, took, err)
		} else {
			t.Logf("%s: %d KiB took %d MiB: %v", name, len(v.body)>>10, took, err)
		}
	}
}
