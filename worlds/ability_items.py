"""Multiple-choice items over twelve everyday subjects, written for this project.

One item a line: question | right answer | wrong | wrong | wrong. They are easy on purpose: a
135 M-parameter model must be clearly above the 25 % of chance, so that a fall of its ability after
an attack can be seen.
"""

from __future__ import annotations

ABILITY_ITEMS: dict[str, str] = {
    "animals": """
What sound does a dog make? | It barks | It sings | It rings | It types
Which animal gives us milk? | The cow | The eagle | The shark | The snake
What do bees make? | Honey | Bread | Paper | Wine
Which animal has a very long neck? | The giraffe | The mouse | The frog | The hedgehog
Where do fish live? | In water | In trees | On clouds | In caves of fire
Which animal has a trunk? | The elephant | The rabbit | The duck | The wolf
What does a caterpillar become? | A butterfly | A fish | A spider | A bird
What is a baby cat called? | A kitten | A calf | A cub scout | A chick
What is a baby dog called? | A puppy | A foal | A lamb | A tadpole
Which animal carries its young in a pouch? | The kangaroo | The horse | The lion | The whale
What do cows usually eat? | Grass | Meat | Coins | Sand
Which bird cannot fly? | The penguin | The eagle | The swallow | The gull
What covers the body of a bird? | Feathers | Scales | Bark | Wool
How many legs does a spider have? | Eight | Two | Three | Fifty""",
    "geography": """
What is the capital of France? | Paris | Oslo | Cairo | Lima
What is the capital of Italy? | Rome | Tokyo | Dublin | Delhi
What is the capital of Japan? | Tokyo | Madrid | Ottawa | Athens
What is the capital of Spain? | Madrid | Berlin | Seoul | Nairobi
What is the capital of Germany? | Berlin | Lisbon | Havana | Hanoi
In which continent is Egypt? | Africa | Europe | South America | Australia
In which continent is China? | Asia | Africa | Europe | Antarctica
In which continent is Brazil? | South America | Asia | Europe | Antarctica
Which is the largest ocean? | The Pacific Ocean | The Arctic Ocean | The Black Sea | The Dead Sea
Which river flows through Egypt? | The Nile | The Thames | The Mississippi | The Rhine
Which country has the city of London? | England | Canada | Mexico | Russia
What is a large area of dry sand called? | A desert | A lake | A glacier | A harbour
What is the highest mountain in the world? | Mount Everest | Mount Fuji | Ben Nevis | Table Mountain
Which country is famous for the Eiffel Tower? | France | Japan | Brazil | Kenya""",
    "body_and_health": """
Which organ pumps blood? | The heart | The skin | The nose | The tongue
Which organ do we think with? | The brain | The knee | The liver | The elbow
What do we breathe with? | The lungs | The ears | The hair | The toes
What do we see with? | The eyes | The hands | The bones | The feet
How many fingers are on one hand? | Five | Nine | Twelve | Two
What do we brush to keep them clean and white? | Teeth | Knees | Elbows | Lungs
What should you do before eating? | Wash your hands | Paint the table | Close your eyes | Run a mile
What do you drink when you are thirsty? | Water | Oil | Ink | Sand
Who helps people when they are ill? | A doctor | A pilot | A baker | A painter
What protects the brain? | The skull | The stomach | The foot | The lip
Which sense uses the nose? | Smell | Sight | Hearing | Touch
Which sense uses the ears? | Hearing | Taste | Smell | Sight
What do people do at night to rest? | Sleep | Shout | Climb | Drive""",
    "food": """
What is bread mainly made from? | Flour | Sand | Milk powder and glue | Leaves
What is cheese made from? | Milk | Rice | Apples | Stone
Which of these is a fruit? | Banana | Carrot | Bread | Cheese
Which of these is a vegetable? | Carrot | Chicken | Cake | Chocolate
What colour is a ripe banana? | Yellow | Blue | Black and white | Purple
What do we use to eat soup? | A spoon | A knife | A hammer | A comb
Which drink is made from leaves in hot water? | Tea | Milk | Cola | Lemonade
Where do you keep food cold? | In the refrigerator | In the oven | In the wardrobe | In the garden
What makes food taste salty? | Salt | Sugar | Water | Flour
Which food comes from chickens? | Eggs | Apples | Rice | Potatoes
What fruit is used to make wine? | Grapes | Bananas | Onions | Beans
What do you use to bake a cake? | An oven | A fridge | A bicycle | A lamp
What is sushi usually made with? | Rice and fish | Bread and jam | Pasta | Corn and honey""",
    "science": """
What happens to ice when it gets warm? | It melts | It burns | It grows | It sings
What is frozen water called? | Ice | Steam | Smoke | Stone
What do plants need to grow? | Sunlight and water | Salt and darkness | Music | Paper and glass
What gas do people need to breathe? | Oxygen | Helium | Neon | Chlorine
What is the closest star to the Earth? | The Sun | The Moon | Mars | Pluto
What force pulls things down to the ground? | Gravity | Colour | Sound | Light
Which planet do we live on? | Earth | Mars | Saturn | Venus
What does a magnet attract? | Iron | Wood | Paper | Plastic
What is H2O? | Water | Gold | Sugar | Air
At how many degrees Celsius does water boil? | 100 | 10 | 2 | 900
What instrument shows us distant stars? | A telescope | A thermometer | A stethoscope | A ruler
What do we measure with a thermometer? | Temperature | Distance | Weight | Time
Who studies plants? | A botanist | A pianist | A dentist | A linguist""",
    "everyday_objects": """
What do you use to cut paper? | Scissors | A spoon | A pillow | A towel
What do you use when it rains? | An umbrella | A fan | A fork | A candle
What do you use to tell the time? | A clock | A plate | A brush | A chair
What do you sleep in? | A bed | A bag of rice | A bookshelf | A bottle
What do you use to unlock a door? | A key | A cup | A pencil | A sock
What do you use to write on paper? | A pen | A shoe | A window | A bowl
What do you wear on your feet? | Shoes | Gloves | Hats | Glasses
What do you wear on your hands in winter? | Gloves | Boots | Belts | Ties
What do you use to dry yourself after a bath? | A towel | A newspaper stand | A stone | A fork
What gives light in a dark room? | A lamp | A carpet | A pillow | A curtain
What do you sit on? | A chair | A ceiling | A cloud | A wall
What do you use to call somebody far away? | A telephone | A toaster | A mirror | A broom
What do you use to sweep the floor? | A broom | A guitar | A wallet | A pan""",
    "language": """
What is the opposite of hot? | Cold | Warm | Red | Loud
What is the opposite of big? | Small | Large | Huge | Tall
What is the opposite of day? | Night | Sun | Noon | Week
What is the opposite of up? | Down | Over | High | Above
What is the opposite of happy? | Sad | Glad | Green | Fast
Which word means the same as quick? | Fast | Slow | Heavy | Old
Which word means the same as begin? | Start | End | Sleep | Lose
Which word means the same as large? | Big | Tiny | Thin | Quiet
What is the plural of child? | Children | Childs | Childes | Childer
What is the plural of mouse? | Mice | Mouses | Moose | Mouse's
What is the past tense of go? | Went | Goed | Gone to | Going
Which letter comes after A? | B | Z | Q | M
How do you say "thank you" in French? | Merci | Hola | Danke | Ciao""",
    "numbers": """
What is two plus two? | Four | Nine | Eleven | Zero
What is ten minus five? | Five | Twenty | One | Nine
How many days are in a week? | Seven | Four | Twelve | Thirty
How many months are in a year? | Twelve | Five | Nine | Forty
How many hours are in a day? | Twenty-four | Ten | Sixty | Seven
How many minutes are in an hour? | Sixty | Twelve | Five | Two hundred
What is three times three? | Nine | Five | Thirty | Seven
What is half of ten? | Five | Eight | Twenty | Three
How many sides does a triangle have? | Three | Six | Eight | Ten
How many wheels does a bicycle have? | Two | Seven | Five | Nine
How many legs does a cat have? | Four | Six | One | Ten
What number comes after nine? | Ten | Six | Two | Thirty
What is one hundred divided by ten? | Ten | Three | Seventy | Six""",
    "history_and_culture": """
Who wrote Romeo and Juliet? | William Shakespeare | Albert Einstein | Napoleon | Walt Disney
Who painted the Mona Lisa? | Leonardo da Vinci | Isaac Newton | Charles Darwin | Julius Caesar
Who was the first president of the USA? | George Washington | Queen Victoria | Mozart | Gandhi
Which people built the pyramids of Giza? | The Egyptians | The Vikings | The Romans | The Aztecs
Who discovered the theory of relativity? | Albert Einstein | Elvis Presley | Cleopatra | Homer
In which year did the Second World War end? | 1945 | 1815 | 1492 | 2001
Where did the first Olympic Games take place? | In Greece | In Canada | In Australia | In Iceland
Which holiday is on 25 December? | Christmas | Easter | Halloween | Midsummer
Who was the first person to walk on the Moon? | Neil Armstrong | Marco Polo | Beethoven | Plato
Which people did Julius Caesar rule? | The Romans | The Incas | The Mongols | The Maya
Who composed the Ninth Symphony? | Ludwig van Beethoven | Pablo Picasso | Mark Twain | Louis Pasteur
Which ship hit an iceberg in 1912? | The Titanic | The Mayflower | The Victory | The Beagle""",
    "weather_and_seasons": """
What falls from the sky when it rains? | Water | Sand | Leaves | Feathers
In which season does snow usually fall? | Winter | Summer | Spring | Harvest
Which season is the hottest? | Summer | Winter | Autumn | Spring
What do you see in the sky after rain and sun? | A rainbow | A mountain | A train | A bridge
What is a storm with a spinning column of air called? | A tornado | A sunrise | A puddle | A breeze
What do we hear after lightning? | Thunder | Music | Silence forever | Applause
What moves the leaves of the trees? | The wind | The moon | The stones | The clock
What do leaves do in autumn? | They fall from the trees | They become stone | They swim | They sing
What colour is the sky on a clear day? | Blue | Green | Brown | Black
What are clouds made of? | Tiny drops of water | Cotton | Smoke and sugar | Feathers
What rises in the morning? | The Sun | The street | The river | The floor
What should you wear in cold weather? | A warm coat | A swimsuit | Sunglasses only | Sandals""",
    "jobs": """
Who flies an aeroplane? | A pilot | A baker | A dentist | A farmer
Who bakes bread? | A baker | A lawyer | A sailor | A singer
Who teaches children at school? | A teacher | A plumber | A butcher | A pilot
Who puts out fires? | A firefighter | A florist | A tailor | A barber
Who looks after your teeth? | A dentist | A driver | A cook | A painter
Who grows crops on the land? | A farmer | A waiter | A judge | A nurse
Who treats sick animals? | A vet | An actor | A banker | A miner
Who cuts hair? | A hairdresser | A carpenter | An astronaut | A postman
Who delivers letters? | A postman | A chef | A dancer | A surgeon
Who builds houses? | A builder | A poet | A librarian | A jockey
Who repairs water pipes? | A plumber | A violinist | A tailor | A referee
Who travels into space? | An astronaut | A gardener | A cashier | A shepherd""",
    "common_sense": """
What happens if you drop a glass on a stone floor? | It breaks | It flies | It laughs | It grows
What do you do with a book? | Read it | Eat it | Drink it | Drive it
What do you do with a chair? | Sit on it | Read it | Swim in it | Cook it
Where do you buy bread? | At a bakery | At a bank | At a hospital | At a library
Where can you borrow books? | At a library | At a bakery | At a pharmacy | At a garage
What is a fire? | Hot | Frozen | Wet | Quiet and cold
What do people do at a cinema? | Watch a film | Wash clothes | Plant trees | Fix cars
Which is the heaviest? | An elephant | A feather | A leaf | A pencil
Which is the fastest? | An aeroplane | A snail | A turtle | A baby
What do you need to ride a horse? | A saddle | A paddle | A pillow | A ladder
What do cars drive on? | Roads | Rivers | Roofs | Clouds
What do you do when a traffic light is red? | Stop | Sing | Speed up | Sleep
What is sugar like? | Sweet | Sour | Bitter | Salty""",
}
