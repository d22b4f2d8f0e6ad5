/* SPDX-License-Identifier: Apache-2.0 */
/* Preloaded by messages.sh: counts what a rank sends and the collectives that it takes part in, through MPI's profiling
 * interface, and prints one line per rank at the end: sends and their bytes, collectives and their bytes. */
#include <mpi.h>
#include <stdio.h>

static long long sends, send_bytes, collectives, collective_bytes;

static long long bytes_of(int count, MPI_Datatype type)
{
    int size = 0;
    PMPI_Type_size(type, &size);
    return (long long)count * size;
}

int MPI_Send(const void *at, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm)
{
    sends++, send_bytes += bytes_of(count, type);
    return PMPI_Send(at, count, type, to, tag, comm);
}

int MPI_Isend(const void *at, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm, MPI_Request *request)
{
    if (tag != 1) sends++, send_bytes += bytes_of(count, type); /* 1: the watch's signs of life (runner/watch.c) */
    return PMPI_Isend(at, count, type, to, tag, comm, request);
}

int MPI_Ibcast(void *at, int count, MPI_Datatype type, int root, MPI_Comm comm, MPI_Request *request)
{
    collectives++, collective_bytes += bytes_of(count, type);
    return PMPI_Ibcast(at, count, type, root, comm, request);
}

int MPI_Iallreduce(const void *from, void *at, int count, MPI_Datatype type, MPI_Op op, MPI_Comm comm,
                   MPI_Request *request)
{
    collectives++, collective_bytes += bytes_of(count, type);
    return PMPI_Iallreduce(from, at, count, type, op, comm, request);
}

int MPI_Ibarrier(MPI_Comm comm, MPI_Request *request)
{
    collectives++;
    return PMPI_Ibarrier(comm, request);
}

int MPI_Finalize(void)
{
    int rank = 0;
    PMPI_Comm_rank(MPI_COMM_WORLD, &rank);
    fprintf(stderr, "MESSAGES %d %lld %lld %lld %lld\n", rank, sends, send_bytes, collectives, collective_bytes);
    return PMPI_Finalize();
}
