// Package simulate replays a trace of demand through policies that size a
// service, and scores what came of it: the daemon's own deciding code, and the
// autoscalers that it is compared with, written from their published formulas.
//
// It is pure: traces come as bytes, chance comes from a seed, and the same
// arguments give the same result. What a policy puts in force in a step follows
// from the steps before that one alone.
package simulate
