package service

import "time"

// Replicas are the containers of one service on this host: how many there are, and
// how many of them are measured. The life cycle of a replica belongs to this type:
// plan.Scaler decides how many replicas a service should have, this type turns that into
// what to create, start, stop and remove here, and package execute does it.
type Replicas struct {
	Total    int
	Measured int
	// LeftAt is when the last one left.
	LeftAt time.Time
}

// Join adds a replica that came to this host, or to this service.
func (r *Replicas) Join(measured bool) {
	r.Total++
	if measured {
		r.Measured++
	}
}

// Leave is the end of a replica, or its move to another service.
func (r *Replicas) Leave(now time.Time, measured bool) {
	r.Total--
	if measured {
		r.Measured--
	}
	r.LeftAt = now
}
