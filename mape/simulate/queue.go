package simulate

import "math"

// queue models what requests wait for: each is WorkPerRequest of CPU time. Work
// that cannot be served in a step waits for the next one; beside that, requests
// that share the cores slow each other down (an M/G/1 queue that is shared by
// the processor: service time over 1 − utilisation).
type queue struct {
	backlog float64 // core-seconds
	waits   waits
}

const (
	// patience is how long a request waits at most: then its client has gone.
	patience = 30.0
	// busiest bounds the slow-down by sharing; the rest is backlog.
	busiest = 0.99

	waitFirst = 1e-3 // seconds: the end of the first bucket
	waitRatio = 1.05
)

// waits is a histogram of latencies, by requests: bucket i ends at
// waitFirst · waitRatio^i, so that 256 buckets reach 253 s.
type waits struct {
	weights [256]float64
	total   float64
}

// pass lets a step of dt seconds pass, with demand and capacity in cores; limit
// is the cores of one replica, under 1 a request takes longer by itself.
func (q *queue) pass(demand, capacity, limit, dt float64) {
	if capacity <= 0 {
		return
	}
	service := WorkPerRequest.Seconds() / min(limit, 1)
	busy := min(demand/capacity, busiest)
	before := q.backlog
	q.backlog = min(max(before+(demand-capacity)*dt, 0), patience*capacity)
	own := service / (1 - busy)
	q.waits.add(own+(before+q.backlog)/2/capacity, demand*dt)
}

func (w *waits) add(seconds, weight float64) {
	if !(weight > 0) {
		return
	}
	i := 0
	if seconds > waitFirst {
		i = int(math.Ceil(math.Log(seconds/waitFirst) / math.Log(waitRatio)))
	}
	w.weights[min(i, len(w.weights)-1)] += weight
	w.total += weight
}

// quantile is the latency in seconds that a share p of requests stayed under; 0
// when nothing was served.
func (w *waits) quantile(p float64) float64 {
	sum := 0.0
	for i, v := range w.weights {
		if sum += v; v > 0 && sum >= p*w.total {
			return min(waitFirst*math.Pow(waitRatio, float64(i)), patience)
		}
	}
	return 0
}
