package ctl

import (
	"fmt"
	"math"

	"github.com/effiscale/effiscale/mape/simulate"
)

// The frontiers' axes: a share of demand left unserved from 0.01 % to 10 %, and
// slack between 1 % and 5000 %; both by ratio, for what counts there is "how many
// times".
const (
	leastShort, mostShort = 1e-4, 0.1
	leastSlack, mostSlack = 0.01, 50.0
)

// curves draws slack against shortage, one line per policy: lower and further
// left is better.
func (p *picture) curves(y int) {
	p.text(pt{plotLeft, y - 34}, face{16, ink}, "Frontier: slack at equal shortage")
	p.text(pt{plotLeft, y - 14}, face{12, faint}, "each policy's allocation times one factor from 0.5 to 8 · lower and further left is better")
	right := plotWidth - plotRight - 170
	foot, top := p.slackRange()
	placeX := func(short float64) int {
		return plotLeft + int(logPlace(short, leastShort, mostShort)*float64(right-plotLeft))
	}
	placeY := func(slack float64) int {
		return y + curveHeight - int(logPlace(slack, foot, top)*curveHeight)
	}
	for _, v := range [...]float64{0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50} {
		if v >= foot && v <= top {
			p.line(pt{plotLeft, placeY(v)}, pt{right, placeY(v)}, pen{1, rule})
			p.textRight(pt{plotLeft - 8, placeY(v) + 4}, face{11, faint}, share(v)+" %")
		}
	}
	for _, v := range [...]float64{0.0001, 0.001, 0.01, 0.1} {
		p.line(pt{placeX(v), y}, pt{placeX(v), y + curveHeight}, pen{1, rule})
		p.textCentre(pt{placeX(v), y + curveHeight + 18}, face{11, faint}, share(v)+" % unserved")
	}
	p.text(pt{right + 42, y - 14}, face{10, faint}, "at 0.1 % · at 1 % unserved")
	for i := len(p.r.results) - 1; i >= 0; i-- { // the first one on top
		r := &p.r.results[i]
		with := pen{1.5, policyHue(r.Policy)}
		if r.Policy == simulate.EffiScale {
			with.width = 3
		}
		var path []pt
		for _, q := range r.Frontier.Curve(curvePoints) {
			if q.Shortage >= leastShort && q.Shortage <= mostShort && q.Slack >= foot {
				path = append(path, pt{placeX(q.Shortage), placeY(q.Slack)})
			}
		}
		p.path(path, with)
		at := y + 10 + i*31
		p.line(pt{right + 16, at - 4}, pt{right + 34, at - 4}, with)
		p.text(pt{right + 42, at}, face{12, ink}, r.Policy)
		p.text(pt{right + 42, at + 13}, face{10, faint}, slacksText(r))
	}
}

// slacksText is a policy's slack at each of the shortages.
func slacksText(r *simulate.Result) string {
	text := ""
	for i, s := range simulate.Shortages() {
		if i > 0 {
			text += " · "
		}
		if f := r.Frontier.Solve(s); f.Reached {
			text += fmt.Sprintf("%s %%", share(f.Slack))
		} else {
			text += "-"
		}
	}
	return text
}

// slackRange is what the slack axis shows: all curves, from a mark to a mark.
func (p *picture) slackRange() (foot, top float64) {
	foot, top = mostSlack, leastSlack
	for i := range p.r.results {
		for _, q := range p.r.results[i].Frontier.Curve(curvePoints) {
			if q.Shortage >= leastShort && q.Shortage <= mostShort {
				foot, top = min(foot, q.Slack), max(top, q.Slack)
			}
		}
	}
	top = min(niceUp(top), mostSlack)
	return min(max(1/niceUp(1/max(foot, leastSlack)), leastSlack), top/10), top
}

// logPlace is how far v lies from a to b by ratio, 0..1.
func logPlace(v, a, b float64) float64 {
	return min(max(math.Log(v/a)/math.Log(b/a), 0), 1)
}
