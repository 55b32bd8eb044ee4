package view

import (
	"strings"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape"
	"github.com/effiscale/effiscale/mape/analyse"
	"github.com/effiscale/effiscale/mape/plan"
)

// explain tells the thresholds in force, what they were, what moved them, and whether
// they steer or why not.
func TestExplainThresholds(t *testing.T) {
	var a analyse.Adaptive
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for i := range 2 * 3600 {
		a.Observe(at.Add(time.Duration(i)*time.Second), 0.5, 0.4, 1)
	}
	u := mape.ContainerStatus{Adaptive: a.Thresholds(0, 1), HasAdaptive: true}
	lesson := a.Judge()
	u.Envelope = plan.Deliberate(at, plan.Facts{Threshold: plan.Threshold{Knee: lesson.Knee, Use: knowledge.OneCPU,
		Mean: knowledge.OneCPU}},
		&u.Policy, knowledge.Host{CPUs: 4, Memory: knowledge.GiB}, knowledge.Envelope{})
	u.Threshold = u.Envelope.Threshold
	rows := adaptive(&u)
	if len(rows) != 5 || !*rows[0].Steers || len(rows[0].Changes) == 0 || rows[0].Changes[0].Use < 0.5 ||
		rows[0].Changes[0].Harm < 0.3 ||
		!strings.Contains(rows[1].Why, "learned threshold") || rows[3].Value != 1.5 || rows[4].Value < 1.74 {
		t.Errorf("%+v", rows)
	}
	if v := envelopeView(&u.Envelope); v.ThresholdFloor != 1.5 || v.Threshold == "" {
		t.Errorf("%+v", v)
	}
	for _, c := range []struct {
		lesson analyse.Lesson
		policy knowledge.Policy
		why    string
	}{
		{analyse.Lesson{Knee: 0.7, Watched: time.Hour, Hurt: 9 * time.Minute}, knowledge.Policy{},
			"not used yet: observed for 1h of 1h, throttled below full use for 9m of 10m"},
		{analyse.Lesson{Knee: 0.9, Watched: 3 * time.Hour}, knowledge.Policy{}, "up to 90% of its limit it is not throttled"},
		{lesson, knowledge.Policy{CPUTarget: 0.6}, "CPU target is 60% of the limit"},
		{lesson, knowledge.Policy{CPUMode: knowledge.CPUWeight}, "no quota"},
	} {
		u.Envelope, u.Threshold = knowledge.Envelope{}, plan.ThresholdUnused(&c.lesson, &c.policy)
		rows := adaptive(&u)
		if len(rows) != 3 || *rows[0].Steers || !strings.Contains(rows[1].Why, c.why) {
			t.Errorf("want %q: %+v", c.why, rows)
		}
	}
}
