package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestRow130Answers: row 130, an answer is kept for a day, over a restart, and without a disk;
// there are not more than fit.
func TestRow130Answers(t *testing.T) {
	c := &clock{epoch}
	o := Options{Dir: t.TempDir(), Now: c.Now, MaxSize: 1 << 20}
	s, _ := mustOpen(t, o)
	want := Answer{Request: "r", Done: true, Body: json.RawMessage(`{"a":1}`)}
	if err := errors.Join(s.Answers.Put("k", &Answer{Request: "r"}), s.Answers.Put("k", &want)); err != nil {
		t.Fatal(err)
	}
	check := func(key string, known bool) {
		t.Helper()
		got, ok, err := s.Answers.Get(key)
		if err != nil || ok != known || known && fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %+v %v %v", key, got, ok, err)
		}
	}
	check("k", true)
	check("kk", false)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, _ = mustOpen(t, o)
	check("k", true)
	for _, bad := range []error{s.Answers.Put("", &want), s.Answers.Put(strings.Repeat("k", 300), &want),
		s.Answers.Put("x", &Answer{Body: json.RawMessage(`"` + strings.Repeat("x", maxAnswer) + `"`)})} {
		if !errors.Is(bad, ErrInvalid) {
			t.Error(bad)
		}
	}
	most := o.mostAnswers()
	for i := range 3 * most {
		c.now = c.now.Add(time.Second)
		if err := s.Answers.Put(fmt.Sprintf("n%d", i), &want); err != nil {
			t.Fatal(err)
		}
	}
	check("k", false)
	check(fmt.Sprintf("n%d", 3*most-1), true)
	kept := 0
	for i := range 3 * most {
		if _, ok, _ := s.Answers.Get(fmt.Sprintf("n%d", i)); ok {
			kept++
		}
	}
	if kept > 2*most+1 || kept < most {
		t.Errorf("%d kept, the share is %d", kept, most)
	}
	c.now = c.now.Add(keyLife + time.Minute)
	check(fmt.Sprintf("n%d", 3*most-1), false)
	if err := s.Answers.Put("k", &want); err != nil {
		t.Fatal(err)
	}
	check("k", true)
	if err := s.Answers.Put("k", nil); err != nil {
		t.Fatal(err)
	}
	check("k", false)
}
