"""What a whole job is made of: stages that hand on what they found, one module a job.

distill     a teacher and a budget become a student that ships
train       a network learns from labels alone
convert     a checkpoint or an ONNX file becomes the file that ships
evaluate    a file is scored on a data set
reproduce   a table of a paper is made again

They never import each other.
"""
