mpirun --oversubscribe --bind-to none -np 2 python -m bench.rank.worker --case ./case.json --role rank --out .
