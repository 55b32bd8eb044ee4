// Package view turns the daemon's internal state into the types of node/api. It is pure:
// the time is an argument, and nothing is read or changed. Its golden tests are in testdata.
package view
