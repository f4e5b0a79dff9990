mpirun --oversubscribe --bind-to none -np 2 python -m bench.worker --case ./case.json --role rank --out .
