// Package orca stands in for the generated one, which Debian does not package. grpc-go's weighted
// round robin reads load reports by these getters; none is sent or decoded here.
package orca

import "google.golang.org/protobuf/reflect/protoreflect"

type OrcaLoadReport struct {
	protoreflect.ProtoMessage
	CpuUtilization, MemUtilization, ApplicationUtilization float64
	RpsFractional, Eps                                     float64
	Utilization, RequestCost, NamedMetrics                 map[string]float64
}

func (r *OrcaLoadReport) GetCpuUtilization() float64         { return r.CpuUtilization }
func (r *OrcaLoadReport) GetApplicationUtilization() float64 { return r.ApplicationUtilization }
func (r *OrcaLoadReport) GetRpsFractional() float64          { return r.RpsFractional }
func (r *OrcaLoadReport) GetEps() float64                    { return r.Eps }
