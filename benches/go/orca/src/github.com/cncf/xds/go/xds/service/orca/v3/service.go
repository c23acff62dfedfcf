// Package orca stands in for the generated one, which Debian does not package: what grpc-go needs of
// it to build. Out-of-band load reports are not used here.
package orca

import (
	"context"

	data "github.com/cncf/xds/go/xds/data/orca/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
)

type OrcaLoadReportRequest struct {
	ReportInterval *durationpb.Duration
}

func (r *OrcaLoadReportRequest) GetReportInterval() *durationpb.Duration { return r.ReportInterval }

type OpenRcaService_StreamCoreMetricsClient interface {
	Recv() (*data.OrcaLoadReport, error)
	grpc.ClientStream
}

type OpenRcaService_StreamCoreMetricsServer interface {
	Send(*data.OrcaLoadReport) error
	grpc.ServerStream
}

type OpenRcaServiceClient interface {
	StreamCoreMetrics(context.Context, *OrcaLoadReportRequest, ...grpc.CallOption) (OpenRcaService_StreamCoreMetricsClient, error)
}

type UnimplementedOpenRcaServiceServer struct{}

func NewOpenRcaServiceClient(grpc.ClientConnInterface) OpenRcaServiceClient { return nil }

func RegisterOpenRcaServiceServer(grpc.ServiceRegistrar, any) {}
